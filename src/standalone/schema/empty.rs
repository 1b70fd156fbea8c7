//! Drops what is empty, as the kinds that are written in Go do on their way into storage.

use serde_json::{Map, Value};

use super::Schema;

/// Drops lists and open maps that are empty, but for those that the schema requires.
pub fn drop_empty(value: &mut Value, schema: Schema<'_>) {
    match value {
        Value::Object(fields) => {
            let required: Vec<_> = schema.get("required").and_then(Value::as_array).into_iter().flatten().collect();
            fields.iter_mut().for_each(|(name, value)| drop_empty(value, schema.field(name)));
            fields.retain(|name, value| {
                let is_open = schema.declared(name).is_some_and(|field| field.values().is_some());
                let is_empty = value.as_array().is_some_and(Vec::is_empty)
                    || is_open && value.as_object().is_some_and(Map::is_empty);
                !is_empty || required.iter().any(|required| *required == name.as_str())
            });
        }
        Value::Array(items) => items.iter_mut().for_each(|item| drop_empty(item, schema.items())),
        _ => {}
    }
}
