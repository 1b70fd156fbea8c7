//! Drops fields that a schema does not know.

use serde_json::Value;

use super::{Place, Schema};

/// Drops unknown fields; returns their paths, sorted.
pub fn prune(value: &mut Value, schema: Schema<'_>) -> Vec<String> {
    let mut dropped = Vec::new();
    walk(value, schema, Place::Start(""), &mut dropped);
    dropped.sort();
    dropped
}

fn walk(value: &mut Value, schema: Schema<'_>, place: Place<'_>, dropped: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let keeps_all = schema.keeps_unknown() || schema.values().is_some();
            fields.retain(|name, _| {
                let known = keeps_all || schema.declared(name).is_some();
                if !known {
                    dropped.push(place.field(name).to_string());
                }
                known
            });
            for (name, value) in fields {
                walk(value, schema.field(name), place.field(name), dropped);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                walk(item, schema.items(), place.item(index), dropped);
            }
        }
        _ => {}
    }
}
