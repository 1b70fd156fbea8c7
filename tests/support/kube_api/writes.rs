//! Who wrote what, by the API server's audit log.

use serde_json::Value;

/// A write that somebody asked the API server for, also when it was refused.
#[derive(Clone, Debug)]
pub struct Write {
    pub verb: String,
    /// With the subresource, if any: `modelpulls/status`.
    pub resource: String,
    pub namespace: String,
    pub name: String,
    pub user_agent: String,
    /// The HTTP status of the answer.
    pub code: u64,
}

/// A point in the log of writes: its length in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Marker(pub(super) usize);

impl Write {
    /// Reads a line of the log.
    pub(super) fn parse(line: &str) -> Self {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("audit line {line:?}: {error}"));
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let resource = [text("/objectRef/resource"), text("/objectRef/subresource")].join("/");
        Self {
            verb: text("/verb"),
            resource: resource.trim_end_matches('/').to_owned(),
            namespace: text("/objectRef/namespace"),
            name: text("/objectRef/name"),
            user_agent: text("/userAgent"),
            code: event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default(),
        }
    }
}
