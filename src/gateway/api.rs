//! The APIs that callers speak, and how each one tells of an error.

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

/// Whose wire format a path speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Ollama's own.
    Ollama,
    /// OpenAI's.
    OpenAi,
    /// Anthropic's.
    Anthropic,
}

impl Api {
    /// By the path that was called.
    pub fn of(path: &str) -> Self {
        match path.strip_prefix("/v1") {
            Some(rest) if rest == "/messages" || rest.starts_with("/messages/") => Self::Anthropic,
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Self::OpenAi,
            _ => Self::Ollama,
        }
    }

    /// By the whole request: both of the others have a list of models at the same path.
    pub fn of_request(path: &str, headers: &HeaderMap) -> Self {
        let is_shared = path == "/v1/models" || path.starts_with("/v1/models/");
        if is_shared && headers.contains_key("anthropic-version") { Self::Anthropic } else { Self::of(path) }
    }

    /// An error in this format.
    pub fn error(self, status: StatusCode, message: &str, code: &str) -> Value {
        match self {
            Self::Ollama => json!({ "error": message }),
            Self::OpenAi => {
                let kind = if status.is_client_error() { "invalid_request_error" } else { "server_error" };
                json!({ "error": { "message": message, "type": kind, "param": null, "code": code } })
            }
            Self::Anthropic => {
                json!({ "type": "error", "error": { "type": anthropic_kind(status), "message": message } })
            }
        }
    }
}

fn anthropic_kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    }
}
