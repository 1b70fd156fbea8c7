//! What a message says of the worker that it is for: another model or policy for this once, and what its session knows.

use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::{
    callers::Caller,
    failure::Failure,
    fields::Fields,
    plan::Leg,
    resolve::{Found, resolve},
};
use crate::{domain::directory::Policy, routing_table::Namespace};

const MODEL: &str = "x-drover-worker-model";
const POLICY: &str = "x-drover-worker-policy";
const FORCE_NEW: &str = "x-drover-force-new";
const HELD: &str = "x-drover-fingerprint";
const REQUIRED: &str = "x-drover-require-fingerprint";
/// The field of a body that says the same.
const FIELD: &str = "drover";

/// What a message says of its worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Message {
    /// The model instead of the worker's.
    pub model: Option<String>,
    /// The policy instead of the worker's.
    pub policy: Option<Policy>,
    /// Whether no node is preferred for having had the session before.
    pub force_new: bool,
    /// The fingerprint that the session began with.
    pub fingerprint: Option<String>,
    /// The one that it must be; another one is refused.
    pub require_fingerprint: Option<String>,
}

impl Message {
    /// Takes it out of a body; what headers say counts more.
    ///
    /// # Errors
    /// What can't be read.
    pub fn take(fields: &mut Fields, headers: &HeaderMap) -> Result<Self, Failure> {
        let said: Option<Self> = fields.take(FIELD).map_err(Failure::bad_request)?;
        let mut message = said.unwrap_or_default();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        message.model = text(MODEL).or(message.model).filter(|model| !model.is_empty());
        message.fingerprint = text(HELD).or(message.fingerprint);
        message.require_fingerprint = text(REQUIRED).or(message.require_fingerprint);
        message.policy = match text(POLICY).as_deref() {
            None => message.policy,
            Some("Static") => Some(Policy::Static),
            Some("Dynamic") => Some(Policy::Dynamic),
            Some(_) => return Err(Failure::bad_request(format!("{POLICY}: write Static or Dynamic"))),
        };
        message.force_new = match text(FORCE_NEW).as_deref() {
            None => message.force_new,
            Some("true") => true,
            Some("false") => false,
            Some(_) => return Err(Failure::bad_request(format!("{FORCE_NEW}: write true or false"))),
        };
        Ok(message)
    }

    /// Checks that it is for a worker, if it says anything of one, and that its caller may use the model that it names.
    ///
    /// # Errors
    /// That it isn't, or 404 or 403 for the model.
    pub fn check(&self, namespace: &Namespace, found: Found<'_>, caller: &Caller) -> Result<(), Failure> {
        let is_said = self.model.is_some() || self.policy.is_some();
        if is_said && !matches!(found, Found::Routed(routed) if routed.is_worker()) {
            return Err(Failure::bad_request(format!("{MODEL} and {POLICY} are for workers: ask for worker/NAME")));
        }
        self.model.as_ref().map_or(Ok(()), |model| resolve(namespace, model, caller).map(drop))
    }

    /// Refuses what would be answered by another model than the session must have.
    ///
    /// # Errors
    /// 409 that names both fingerprints.
    pub fn check_fingerprint(&self, legs: &[Leg<'_>]) -> Result<(), Failure> {
        let Some(required) = &self.require_fingerprint else { return Ok(()) };
        let now = legs.first().and_then(Leg::fingerprint).unwrap_or_default();
        if now == *required {
            return Ok(());
        }
        let now = if now.is_empty() { "no worker answers".into() } else { format!("it is {now} now") };
        let message = format!(
            "the session's model is another one by now: its fingerprint was {required}, {now}; begin a new session"
        );
        Err(Failure::new(StatusCode::CONFLICT, "fingerprint_changed", message))
    }
}
