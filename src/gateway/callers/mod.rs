//! Who calls, by a key or without one, and what that caller may do.
//!
//! A key is known by its sha256 alone. One that is known always counts, with its models and limits; where nobody asks for
//! a key, one that isn't known is ignored, as many clients send any text for want of one.

mod known;
mod visit;

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
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

    /// Whether models may be pulled and deleted, where the gateway lets callers do that.
    pub fn may_operate(&self) -> bool {
        self.0.as_ref().is_none_or(|known| known.may_operate())
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

/// Whether a proxy sent this for somebody else, who may be anywhere.
pub fn is_forwarded(headers: &HeaderMap) -> bool {
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
