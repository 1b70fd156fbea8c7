//! Events of `v1` and of `events.k8s.io/v1` are the same objects; they are stored as the former.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::standalone::kinds::Kind;

/// The group of the newer form.
pub const GROUP: &str = "events.k8s.io";

/// Fields of the core form beside those of the newer one.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// How an event is stored.
pub fn stored(object: Value, kind: &Kind) -> Value {
    renamed(object, kind, "v1", |name| NAMES.iter().find(|(_, new)| *new == name).map(|(old, _)| *old))
}

/// An object as its kind shows it.
pub fn as_shown<'a>(object: &'a Value, kind: &Kind) -> Cow<'a, Value> {
    if kind.group == GROUP { Cow::Owned(shown(object.clone(), kind)) } else { Cow::Borrowed(object) }
}

/// How an event is shown as this kind.
pub fn shown(object: Value, kind: &Kind) -> Value {
    let version = kind.api_version();
    renamed(object, kind, &version, |name| NAMES.iter().find(|(old, _)| *old == name).map(|(_, new)| *new))
}

fn renamed(object: Value, kind: &Kind, version: &str, rename: impl Fn(&str) -> Option<&'static str>) -> Value {
    if kind.group != GROUP {
        return object;
    }
    let Value::Object(fields) = object else { return object };
    let fields = fields.into_iter().map(|(name, value)| (rename(&name).map_or(name, str::to_owned), value));
    let mut object: Map<_, _> = fields.collect();
    object.insert("apiVersion".into(), json!(version));
    Value::Object(object)
}
