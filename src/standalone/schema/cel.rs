//! Rules in CEL, also those that compare with the object before.

use kube_cel::{CompiledSchema, ErrorKind, Validator};
use serde_json::Value;

use crate::standalone::status::Cause;

/// Every rule that the object breaks.
pub fn check_rules(rules: &CompiledSchema, object: &Value, before: Option<&Value>) -> Vec<Cause> {
    thread_local! {
        static VALIDATOR: Validator = Validator::new();
    }
    let broken = VALIDATOR.with(|validator| validator.validate_compiled(rules, object, before).err());
    let causes = broken.into_iter().flatten().map(|error| {
        let detail = match error.kind {
            ErrorKind::ValidationFailure => error.message,
            _ => format!("{} (rule: {})", error.message, error.rule),
        };
        let field = if error.field_path.is_empty() { "<nil>".into() } else { error.field_path };
        Cause { reason: "FieldValueInvalid", field, message: format!("Invalid value: {detail}") }
    });
    causes.collect()
}
