//! Requests that were refused for the key that they came with. Some of them leave no record: nothing was read of them.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::gateway::failure::Failure;

/// The codes of failures that are about a caller's key or its limits.
const CODES: [&str; 3] = ["invalid_api_key", "model_not_allowed", "rate_limit_exceeded"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCode {
    code: &'static str,
}

/// How many there were, by the code of the error.
#[derive(Debug)]
pub struct Refusals(Family<ByCode, Counter>);

impl Default for Refusals {
    fn default() -> Self {
        let refusals = Family::default();
        // From the start, so that a rule about one knows it before it happens.
        CODES.into_iter().for_each(|code| drop(refusals.get_or_create(&ByCode { code })));
        Self(refusals)
    }
}

impl Refusals {
    /// Lets `/metrics` show them.
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Requests for a model that were refused for their key or its limits, by the code of the error";
        registry.register("gateway_refused_callers", help, self.0.clone());
    }

    /// Counts a request that gets this failure instead of an answer, if that is about its key.
    pub fn count(&self, failure: &Failure) {
        if let Some(code) = CODES.into_iter().find(|code| *code == failure.code) {
            self.0.get_or_create(&ByCode { code }).inc();
        }
    }
}
