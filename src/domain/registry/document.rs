//! What becomes of a version that was written down: it is made, is there already, or another one has its name.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::VersionRecord;

/// A version that is there.
#[derive(Clone, Debug)]
pub struct Present {
    /// Its spec.
    pub spec: Value,
    /// The digest that its tag was resolved to.
    pub digest: Option<String>,
}

/// What becomes of a version that was written down.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// It is made, with this spec.
    Make(Value),
    /// It is there as it was written down.
    Same,
    /// It is there, but these fields differ. It is left as it is: what a version is never changes.
    Differs(Vec<String>),
    /// It isn't there, and what it was wasn't written down.
    Unknown,
}

/// Compares a version that was written down with the one that is there.
pub fn fate(record: &VersionRecord, present: Option<&Present>) -> Fate {
    if record.spec.is_null() {
        return if present.is_some() { Fate::Same } else { Fate::Unknown };
    }
    let wanted = pinned(&record.spec, record.digest.as_deref());
    let Some(present) = present else { return Fate::Make(wanted) };
    let there = pinned(&present.spec, present.digest.as_deref());
    let fields: BTreeSet<&String> =
        [&wanted, &there].into_iter().filter_map(Value::as_object).flat_map(Map::keys).collect();
    let differs = fields.into_iter().filter(|field| !is_same(&wanted[field.as_str()], &there[field.as_str()]));
    let differs: Vec<String> = differs.cloned().collect();
    if differs.is_empty() { Fate::Same } else { Fate::Differs(differs) }
}

/// The spec with the digest that its tag was resolved to: a tag can move.
fn pinned(spec: &Value, digest: Option<&str>) -> Value {
    let mut spec = spec.clone();
    if let (Some(source), Some(digest)) = (spec.pointer_mut("/source/ollama"), digest) {
        source["digest"] = json!(digest);
    }
    spec
}

/// Whether two values say the same: what is empty is as good as absent, and 1 is 1.0.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let of = |fields: &Map<String, Value>, name: &String| fields.get(name).cloned().unwrap_or_default();
            names.into_iter().all(|name| is_same(&of(a, name), &of(b, name)))
        }
        _ => a == b || (is_empty(a) && is_empty(b)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
