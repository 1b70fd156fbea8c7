//! Who wrote what, by the API server's audit log, which has two lines for each write: one before it is done, one before it
//! is answered. Others may see a write before its second line is there.

use std::collections::BTreeSet;

use serde_json::Value;

/// The stage of a write's first line.
pub(super) const RECEIVED: &str = "RequestReceived";
/// The stage of its second line.
pub(super) const ANSWERED: &str = "ResponseComplete";

/// A write that somebody asked the API server for, also when it was refused.
#[derive(Clone, Debug)]
pub struct Write {
    pub verb: String,
    /// With the subresource, if any: `modelpulls/status`.
    pub resource: String,
    pub namespace: String,
    pub name: String,
    pub user_agent: String,
    /// The HTTP status of the answer; 0 when the client of the embedded API did not wait for it.
    pub code: u64,
}

/// A point in the log of writes: its length in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Marker(pub(super) usize);

/// The writes that were answered in this part of the log.
pub(super) fn answered(log: &str) -> Vec<Write> {
    let events = events(log).filter(|event| event["stage"] != RECEIVED);
    events.map(|event| Write::new(&event)).collect()
}

/// The writes that were received in this part of the log, and not answered in it.
pub(super) fn unanswered(log: &str) -> BTreeSet<String> {
    let mut open = BTreeSet::new();
    for event in events(log) {
        let id = text(&event, "/auditID");
        if event["stage"] == RECEIVED {
            open.insert(id);
        } else {
            open.remove(&id);
        }
    }
    open
}

fn events(log: &str) -> impl Iterator<Item = Value> {
    let event = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("audit line {line:?}: {error}"));
    log.lines().map(event)
}

fn text(event: &Value, pointer: &str) -> String {
    event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl Write {
    fn new(event: &Value) -> Self {
        let resource = [text(event, "/objectRef/resource"), text(event, "/objectRef/subresource")].join("/");
        Self {
            verb: text(event, "/verb"),
            resource: resource.trim_end_matches('/').to_owned(),
            namespace: text(event, "/objectRef/namespace"),
            name: text(event, "/objectRef/name"),
            user_agent: text(event, "/userAgent"),
            code: event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default(),
        }
    }
}
