//! Fills in what a schema has defaults for, and drops nulls that it does not allow.

use serde_json::Value;

use super::Schema;

/// Fills in defaults, also inside what was filled in.
pub fn fill_in(value: &mut Value, schema: Schema<'_>) {
    match value {
        Value::Object(fields) => {
            let declared = schema.get("properties").and_then(Value::as_object);
            for (name, property) in declared.into_iter().flatten() {
                let nullable = property["nullable"] == Value::Bool(true);
                let missing = fields.get(name).is_none_or(|value| value.is_null() && !nullable);
                match property.get("default") {
                    Some(default) if missing => {
                        fields.insert(name.clone(), default.clone());
                    }
                    None if missing => {
                        fields.shift_remove(name);
                    }
                    _ => {}
                }
            }
            fields.iter_mut().for_each(|(name, value)| fill_in(value, schema.field(name)));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill_in(item, schema.items())),
        _ => {}
    }
}
