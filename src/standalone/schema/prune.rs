//! Drops fields that a schema does not know.

use serde_json::Value;

use super::Schema;

/// Drops unknown fields; returns their paths, sorted.
pub fn prune(value: &mut Value, schema: Schema<'_>) -> Vec<String> {
    let mut dropped = Vec::new();
    walk(value, schema, "", &mut dropped);
    dropped.sort();
    dropped
}

fn walk(value: &mut Value, schema: Schema<'_>, path: &str, dropped: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let is_known =
                |name: &str| schema.keeps_unknown() || schema.declared(name).is_some() || schema.values().is_some();
            fields.retain(|name, _| {
                let known = is_known(name);
                if !known {
                    dropped.push(below(path, name));
                }
                known
            });
            for (name, value) in fields {
                walk(value, schema.field(name), &below(path, name), dropped);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                walk(item, schema.items(), &format!("{path}[{index}]"), dropped);
            }
        }
        _ => {}
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
