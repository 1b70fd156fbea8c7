//! Who calls, by a key or without one, and what that caller may do.
//!
//! A key is known by its sha256 alone. One that is known always counts, with its models and limits; where nobody asks for
//! a key, one that isn't known is ignored, as many clients send any text for want of one.

mod known;
mod visit;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION, request::Parts},
    response::Response,
};
use jiff::Timestamp;

pub use self::{
    known::{Known, KnownKeys},
    visit::Visit,
};
use super::{Gateway, api::Api, failure::Failure};
use crate::domain::caller::{ModelPatterns, RequireKey};

const BEARER: &str = "bearer ";
const X_API_KEY: &str = "x-api-key";
/// Headers by which a proxy says that it asks for somebody else.
const FORWARDED: [&str; 2] = ["forwarded", "x-forwarded-for"];
const HOW_TO_SEND: &str = "send it as \"Authorization: Bearer KEY\" or \"x-api-key: KEY\"";

/// Marks a request that came over a connection whose caller is asked for a key.
#[derive(Clone, Copy, Debug)]
pub struct MustHaveKey;

/// Who sent a request: somebody with a key that is known, or anybody.
#[derive(Clone, Default)]
pub struct Caller(Option<Arc<Known>>);

impl Caller {
    /// Who sent this request.
    ///
    /// # Errors
    /// 401: a key is asked for and there is none that is known, or it can't be used any more.
    pub fn of(gateway: &Gateway, parts: &Parts) -> Result<Self, Failure> {
        let (mut has_key, headers) = (false, &parts.headers);
        if headers.contains_key(AUTHORIZATION) || headers.contains_key(X_API_KEY) {
            let serving = gateway.serving();
            for key in given(headers) {
                has_key = true;
                if let Some(known) = serving.keys().find(key) {
                    known.check(Timestamp::now())?;
                    return Ok(Self(Some(known)));
                }
            }
        }
        match (must_have_key(gateway.settings().require_key, parts), has_key) {
            (false, _) => Ok(Self::default()),
            (true, false) => Err(unauthorized(format!("a key is needed here: {HOW_TO_SEND}"))),
            (true, true) => Err(unauthorized(
                "this key is not known here: it was revoked, or is for another gateway; ask whoever runs this one for a key",
            )),
        }
    }

    /// The name of the key, if there is one.
    pub fn name(&self) -> Option<&Arc<str>> {
        self.0.as_ref().map(|known| known.name())
    }

    /// The patterns of the models that may be used; `None`: all of them.
    pub fn patterns(&self) -> Option<&ModelPatterns> {
        self.0.as_ref()?.patterns()
    }

    /// Whether the key lets models be pulled and deleted, where the gateway lets callers do that; `None` without a key.
    pub fn may_operate(&self) -> Option<bool> {
        self.0.as_ref().map(|known| known.key().allow_model_operations)
    }

    /// Checks that a model of this name, which may be nowhere yet, may be used once it is there.
    ///
    /// # Errors
    /// 403 that says it may not.
    pub fn check_tag(&self, tag: &str) -> Result<(), Failure> {
        let has_tag = tag.rsplit('/').next().is_some_and(|last| last.contains(':'));
        let listed = if has_tag { tag.to_owned() } else { format!("{tag}:latest") };
        match self.patterns().is_none_or(|patterns| patterns.fit(&listed)) {
            true => Ok(()),
            false => Err(self.not_allowed(tag)),
        }
    }

    /// That something may not be used.
    pub fn not_allowed(&self, model: &str) -> Failure {
        let key = self.name().map_or("", |name| name);
        let message = format!("the key {key} may not be used for {model:?}: /v1/models lists what it may be used for");
        Failure::new(StatusCode::FORBIDDEN, "model_not_allowed", message)
    }

    /// Begins a request for a model, which counts as under way until what this gives is dropped.
    ///
    /// # Errors
    /// 429 that names the limit which the caller has reached.
    pub fn begin(&self) -> Result<Visit, Failure> {
        Visit::begin(self.0.as_ref())
    }
}

impl FromRequestParts<Gateway> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Response> {
        Self::of(gateway, parts).map_err(|failure| failure.render(Api::of_request(parts.uri.path(), &parts.headers)))
    }
}

/// Whether a request comes from this machine, for nobody else. Known of the paths for which the server tells who is there.
pub fn is_from_here(parts: &Parts) -> bool {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let is_here = peer.is_some_and(|ConnectInfo(peer)| peer.ip().to_canonical().is_loopback());
    is_here && !is_forwarded(&parts.headers)
}

/// Whether a proxy sent this for somebody else, who may be anywhere.
fn is_forwarded(headers: &HeaderMap) -> bool {
    FORWARDED.iter().any(|name| headers.contains_key(*name))
}

fn must_have_key(policy: RequireKey, parts: &Parts) -> bool {
    parts.extensions.get::<MustHaveKey>().is_some() || (policy.asks(false) && is_forwarded(&parts.headers))
}

/// The keys that a request brings.
fn given(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let bearer = text(AUTHORIZATION.as_str()).and_then(|text| {
        let (scheme, key) = text.split_at_checked(BEARER.len())?;
        scheme.eq_ignore_ascii_case(BEARER).then(|| key.trim())
    });
    bearer.into_iter().chain(text(X_API_KEY)).filter(|key| !key.is_empty())
}

fn unauthorized(message: impl Into<String>) -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
}
