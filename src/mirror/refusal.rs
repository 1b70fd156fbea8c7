//! Why the mirror can't give what it was asked for.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use crate::domain::pull::Fault;

/// What went wrong, as a sentence that says where and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The kind.
    pub fault: Fault,
    /// For people.
    pub message: String,
    /// When the registry asked to come back.
    pub retry_after: Option<Duration>,
}

/// A refusal as it travels: `{"error": {…}}`.
#[derive(Serialize, Deserialize)]
pub(super) struct Envelope {
    pub error: Detail,
}

/// The fields of a refusal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Detail {
    /// [`Fault::reason`], or what is wrong with the request itself.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

impl Refusal {
    /// One without a time to come back.
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self { fault, message: message.into(), retry_after: None }
    }

    /// The same on a path of Ollama's, which shows the text to people. Never 401, which would make Ollama ask for a
    /// login that nodes don't have.
    pub fn plain(&self) -> Response {
        let mut response = (self.status(), self.message.clone()).into_response();
        self.stamp(&mut response);
        response
    }

    /// The same without a word.
    pub fn wordless(&self) -> Response {
        let mut response = self.status().into_response();
        self.stamp(&mut response);
        response
    }

    /// The same on a path of Drover's.
    pub fn json(&self) -> Response {
        let detail = Detail {
            reason: self.fault.reason().into(),
            message: self.message.clone(),
            retry_after_seconds: self.seconds(),
        };
        let mut response = (self.status(), Json(Envelope { error: detail })).into_response();
        self.stamp(&mut response);
        response
    }

    fn seconds(&self) -> Option<u64> {
        self.retry_after.map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
    }

    fn stamp(&self, response: &mut Response) {
        if let Some(seconds) = self.seconds() {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
    }

    fn status(&self) -> StatusCode {
        match self.fault {
            Fault::NoSuchModel => StatusCode::NOT_FOUND,
            Fault::Unauthorized => StatusCode::FORBIDDEN,
            Fault::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Fault::MirrorFull => StatusCode::INSUFFICIENT_STORAGE,
            Fault::RegistryUnreachable | Fault::WrongScheme | Fault::DigestMismatch => StatusCode::BAD_GATEWAY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
