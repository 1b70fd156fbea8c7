//! Checks types, enums, patterns and ranges, and says what is wrong in the API server's words.

use std::{cell::RefCell, collections::HashMap};

use jiff::Timestamp;
use regex::Regex;
use serde_json::{Value, json};

use super::Schema;
use crate::standalone::status::Cause;

/// Said when rules in CEL were left out because of other faults.
pub const BLOCKED: &str = "some validation rules were not checked because the object was invalid; \
                           correct the existing errors to complete validation";

/// Whether rules in CEL can't be evaluated with such a fault about.
pub fn blocks_rules(cause: &Cause) -> bool {
    ["FieldValueRequired", "FieldValueNotSupported", "FieldValueTypeInvalid", "FieldValueTooLong", "FieldValueTooMany"]
        .contains(&cause.reason)
}

/// Everything that is wrong with a value at `path`.
pub fn check(value: &Value, schema: Schema<'_>, path: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    walk(value, schema, path, &mut causes);
    causes
}

/// Whether the value at a path such as `spec.steps[2].weight` is the same in both: old faults hinder no change elsewhere.
pub fn is_unchanged(path: &str, before: &Value, after: &Value) -> bool {
    let pointer = format!("/{}", path.replace('[', ".").replace(']', "").replace('/', "~1").replace('.', "/"));
    before.pointer(&pointer).is_some_and(|value| after.pointer(&pointer) == Some(value))
}

fn walk(value: &Value, schema: Schema<'_>, path: &str, causes: &mut Vec<Cause>) {
    if value.is_null() && schema.get("nullable") == Some(&json!(true)) {
        return;
    }
    if let Some(cause) = wrong_type(value, schema, path) {
        causes.push(cause);
        return;
    }
    causes.extend(wrong_enum(value, schema, path));
    match value {
        Value::String(text) => causes.extend(wrong_text(text, schema, path)),
        Value::Number(number) => causes.extend(wrong_number(number, schema, path)),
        Value::Array(items) => {
            causes.extend(wrong_count(items.len(), schema, path));
            for (index, item) in items.iter().enumerate() {
                walk(item, schema.items(), &format!("{path}[{index}]"), causes);
            }
            causes.extend(wrong_duplicate(items, value, schema, path));
        }
        Value::Object(fields) => {
            let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
            let missing = required.filter_map(Value::as_str).filter(|name| !fields.contains_key(*name));
            causes.extend(missing.map(|name| Cause::required(below(path, name), "")));
            for (name, value) in fields {
                let (inner, open) = (schema.field(name), schema.declared(name).is_none());
                let path = if open && !path.is_empty() { format!("{path}.{name}") } else { below(path, name) };
                walk(value, inner, &path, causes);
            }
        }
        _ => {}
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn wrong_type(value: &Value, schema: Schema<'_>, path: &str) -> Option<Cause> {
    let wanted = schema.text("type")?;
    let given = kind_of(value);
    let whole = value.as_f64().is_some_and(|number| number.fract() == 0.0);
    let fits = wanted == given || (wanted == "number" && given == "integer") || (wanted == "integer" && whole);
    let message = format!("Invalid value: \"{given}\": {path} in body must be of type {wanted}: \"{given}\"");
    (!fits).then(|| Cause { reason: "FieldValueTypeInvalid", field: path.into(), message })
}

fn wrong_enum(value: &Value, schema: Schema<'_>, path: &str) -> Option<Cause> {
    let allowed = schema.get("enum")?.as_array()?;
    let all: Vec<_> = allowed.iter().map(Value::to_string).collect();
    let message = format!("Unsupported value: {value}: supported values: {}", all.join(", "));
    (!allowed.contains(value)).then(|| Cause { reason: "FieldValueNotSupported", field: path.into(), message })
}

fn wrong_text(text: &str, schema: Schema<'_>, path: &str) -> Vec<Cause> {
    let number = |key| schema.get(key).and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok());
    let length = text.chars().count();
    let value = json!(text);
    let mut causes = Vec::new();
    if let Some(limit) = number("maxLength").filter(|limit| length > *limit) {
        let message = format!("Too long: may not be more than {limit} bytes");
        causes.push(Cause { reason: "FieldValueTooLong", field: path.into(), message });
    }
    if let Some(limit) = number("minLength").filter(|limit| length < *limit) {
        causes.push(Cause::invalid(path, &value, &format!("{path} in body should be at least {limit} chars long")));
    }
    if let Some(pattern) = schema.text("pattern").filter(|pattern| !matches(pattern, text)) {
        causes.push(Cause::invalid(path, &value, &format!("{path} in body should match '{pattern}'")));
    }
    if schema.text("format") == Some("date-time") && text.parse::<Timestamp>().is_err() {
        causes.push(Cause::invalid(path, &value, &format!("{path} in body must be of type date-time: {value}")));
    }
    causes
}

/// Whether a pattern fits; one that can't be read fits everything, as no definition of ours has one.
fn matches(pattern: &str, text: &str) -> bool {
    thread_local! {
        static PATTERNS: RefCell<HashMap<String, Option<Regex>>> = RefCell::default();
    }
    PATTERNS.with_borrow_mut(|patterns| {
        let known = patterns.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).ok());
        known.as_ref().is_none_or(|regex| regex.is_match(text))
    })
}

fn wrong_number(number: &serde_json::Number, schema: Schema<'_>, path: &str) -> Vec<Cause> {
    let (given, value) = (number.as_f64().unwrap_or_default(), Value::Number(number.clone()));
    let limit = |key| schema.get(key).and_then(Value::as_f64);
    let strict = |key| schema.get(key) == Some(&json!(true));
    let mut causes = Vec::new();
    if let Some(minimum) = limit("minimum") {
        let (exclusive, words) = (strict("exclusiveMinimum"), ["greater than or equal to", "greater than"]);
        if given < minimum || (exclusive && given <= minimum) {
            let words = words[usize::from(exclusive)];
            causes.push(Cause::invalid(path, &value, &format!("{path} in body should be {words} {minimum}")));
        }
    }
    if let Some(maximum) = limit("maximum") {
        let (exclusive, words) = (strict("exclusiveMaximum"), ["less than or equal to", "less than"]);
        if given > maximum || (exclusive && given >= maximum) {
            let words = words[usize::from(exclusive)];
            causes.push(Cause::invalid(path, &value, &format!("{path} in body should be {words} {maximum}")));
        }
    }
    causes
}

fn wrong_count(count: usize, schema: Schema<'_>, path: &str) -> Vec<Cause> {
    let number = |key| schema.get(key).and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok());
    let mut causes = Vec::new();
    if let Some(limit) = number("maxItems").filter(|limit| count > *limit) {
        let message = format!("Too many: {count}: must have at most {limit} items");
        causes.push(Cause { reason: "FieldValueTooMany", field: path.into(), message });
    }
    if let Some(limit) = number("minItems").filter(|limit| count < *limit) {
        let detail = format!("{path} in body should have at least {limit} items");
        causes.push(Cause::invalid(path, &json!(count), &detail));
    }
    causes
}

fn wrong_duplicate(items: &[Value], whole: &Value, schema: Schema<'_>, path: &str) -> Vec<Cause> {
    let identity = |item: &Value| match schema.shape(whole) {
        super::Shape::ListMap(keys) => {
            Some(keys.iter().map(|key| (key.clone(), item[key].clone())).collect::<serde_json::Map<_, _>>().into())
        }
        super::Shape::Set => Some(item.clone()),
        _ => None,
    };
    let identities: Vec<Option<Value>> = items.iter().map(identity).collect();
    let repeated =
        identities.iter().enumerate().filter(|(index, id)| id.is_some() && identities[..*index].contains(id));
    let causes = repeated.filter_map(|(index, id)| Some(Cause::duplicate(format!("{path}[{index}]"), id.as_ref()?)));
    causes.collect()
}
