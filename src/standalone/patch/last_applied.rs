//! kubectl notes in an annotation what it applied by itself. When it goes over to server-side apply, fields that it
//! noted there are its own, and the note is kept current.

use serde_json::Value;

use super::fields::{Set, compare};
use crate::standalone::schema::Schema;

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The manager for whom the annotation is looked at.
const KUBECTL: &str = "kubectl";

fn note(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][ANNOTATION].as_str().filter(|text| !text.is_empty())
}

/// The fields that a manager noted as its own and that still have those values.
pub fn noted(live: &Value, manager: &str, schema: Schema<'_>) -> Set {
    let text = note(live).filter(|_| manager == KUBECTL);
    let applied = text.and_then(|text| serde_json::from_str::<Value>(text).ok());
    let Some(applied) = applied.filter(|applied| applied["apiVersion"] == live["apiVersion"]) else {
        return Set::default();
    };
    let difference = compare(&applied, live, schema);
    let changed = difference.modified.union(difference.added).union(difference.removed);
    Set::of(&applied, schema).difference(&changed)
}

/// Brings the note up to date, if there is one.
pub fn renew(object: &mut Value, config: &Value, manager: &str) {
    if manager != KUBECTL || note(object).is_none() {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.shift_remove(ANNOTATION);
    }
    config.sort_all_objects();
    object["metadata"]["annotations"][ANNOTATION] = Value::String(as_go_writes(&config));
}

/// JSON in which nothing looks like HTML, with an end of line.
fn as_go_writes(value: &Value) -> String {
    // These letters are found inside texts only.
    let text = value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    text + "\n"
}
