//! Checks types, enums, patterns and ranges, and says what is wrong in the API server's words.

use std::{cell::RefCell, collections::HashMap};

use jiff::Timestamp;
use regex::Regex;
use serde_json::{Value, json};

use super::{Place, Schema};
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
    walk(value, schema, Place::Start(path), &mut causes);
    causes
}

/// Whether the value at a path such as `spec.steps[2].weight` is the same in both: old faults hinder no change elsewhere.
pub fn is_unchanged(path: &str, before: &Value, after: &Value) -> bool {
    let pointer = format!("/{}", path.replace('[', ".").replace(']', "").replace('/', "~1").replace('.', "/"));
    before.pointer(&pointer).is_some_and(|value| after.pointer(&pointer) == Some(value))
}

fn walk(value: &Value, schema: Schema<'_>, place: Place<'_>, causes: &mut Vec<Cause>) {
    if value.is_null() && schema.get("nullable") == Some(&Value::Bool(true)) {
        return;
    }
    if let Some(cause) = wrong_type(value, schema, place) {
        causes.push(cause);
        return;
    }
    causes.extend(wrong_enum(value, schema, place));
    match value {
        Value::String(text) => wrong_text(text, schema, place, causes),
        Value::Number(number) => wrong_number(number, schema, place, causes),
        Value::Array(items) => {
            wrong_count(items.len(), schema, place, causes);
            for (index, item) in items.iter().enumerate() {
                walk(item, schema.items(), place.item(index), causes);
            }
            causes.extend(wrong_duplicate(items, value, schema, place));
        }
        Value::Object(fields) => {
            let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
            let missing = required.filter_map(Value::as_str).filter(|name| !fields.contains_key(*name));
            causes.extend(missing.map(|name| Cause::required(place.field(name).to_string(), "")));
            for (name, value) in fields {
                walk(value, schema.field(name), place.field(name), causes);
            }
        }
        _ => {}
    }
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

fn wrong_type(value: &Value, schema: Schema<'_>, place: Place<'_>) -> Option<Cause> {
    let wanted = schema.text("type")?;
    let given = kind_of(value);
    let whole = || value.as_f64().is_some_and(|number| number.fract() == 0.0);
    if wanted == given || (wanted == "number" && given == "integer") || (wanted == "integer" && whole()) {
        return None;
    }
    let message = format!("Invalid value: \"{given}\": {place} in body must be of type {wanted}: \"{given}\"");
    Some(Cause { reason: "FieldValueTypeInvalid", field: place.to_string(), message })
}

fn wrong_enum(value: &Value, schema: Schema<'_>, place: Place<'_>) -> Option<Cause> {
    let allowed = schema.get("enum")?.as_array()?;
    if allowed.contains(value) {
        return None;
    }
    let all: Vec<_> = allowed.iter().map(Value::to_string).collect();
    let message = format!("Unsupported value: {value}: supported values: {}", all.join(", "));
    Some(Cause { reason: "FieldValueNotSupported", field: place.to_string(), message })
}

/// A limit that counts something.
fn count_of(schema: Schema<'_>, key: &str) -> Option<usize> {
    schema.get(key).and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok())
}

fn wrong_text(text: &str, schema: Schema<'_>, place: Place<'_>, causes: &mut Vec<Cause>) {
    let length = || text.chars().count();
    if let Some(limit) = count_of(schema, "maxLength").filter(|limit| length() > *limit) {
        let message = format!("Too long: may not be more than {limit} bytes");
        causes.push(Cause { reason: "FieldValueTooLong", field: place.to_string(), message });
    }
    let mut invalid = |detail: String| causes.push(Cause::invalid(place.to_string(), &json!(text), &detail));
    if let Some(limit) = count_of(schema, "minLength").filter(|limit| length() < *limit) {
        invalid(format!("{place} in body should be at least {limit} chars long"));
    }
    if let Some(pattern) = schema.text("pattern").filter(|pattern| !matches(pattern, text)) {
        invalid(format!("{place} in body should match '{pattern}'"));
    }
    if schema.text("format") == Some("date-time") && text.parse::<Timestamp>().is_err() {
        invalid(format!("{place} in body must be of type date-time: {}", json!(text)));
    }
}

/// Whether a pattern fits; one that can't be read fits everything, as no definition of ours has one.
fn matches(pattern: &str, text: &str) -> bool {
    thread_local! {
        static PATTERNS: RefCell<HashMap<String, Option<Regex>>> = RefCell::default();
    }
    PATTERNS.with_borrow_mut(|patterns| {
        if !patterns.contains_key(pattern) {
            patterns.insert(pattern.to_owned(), Regex::new(pattern).ok());
        }
        patterns.get(pattern).and_then(Option::as_ref).is_none_or(|regex| regex.is_match(text))
    })
}

fn wrong_number(number: &serde_json::Number, schema: Schema<'_>, place: Place<'_>, causes: &mut Vec<Cause>) {
    let given = number.as_f64().unwrap_or_default();
    let limit = |key| schema.get(key).and_then(Value::as_f64);
    let strict = |key| schema.get(key) == Some(&Value::Bool(true));
    let mut invalid = |words: &str, limit: f64| {
        let detail = format!("{place} in body should be {words} {limit}");
        causes.push(Cause::invalid(place.to_string(), &Value::Number(number.clone()), &detail));
    };
    if let Some(minimum) = limit("minimum") {
        let (exclusive, words) = (strict("exclusiveMinimum"), ["greater than or equal to", "greater than"]);
        if given < minimum || (exclusive && given <= minimum) {
            invalid(words[usize::from(exclusive)], minimum);
        }
    }
    if let Some(maximum) = limit("maximum") {
        let (exclusive, words) = (strict("exclusiveMaximum"), ["less than or equal to", "less than"]);
        if given > maximum || (exclusive && given >= maximum) {
            invalid(words[usize::from(exclusive)], maximum);
        }
    }
}

fn wrong_count(count: usize, schema: Schema<'_>, place: Place<'_>, causes: &mut Vec<Cause>) {
    if let Some(limit) = count_of(schema, "maxItems").filter(|limit| count > *limit) {
        let message = format!("Too many: {count}: must have at most {limit} items");
        causes.push(Cause { reason: "FieldValueTooMany", field: place.to_string(), message });
    }
    if let Some(limit) = count_of(schema, "minItems").filter(|limit| count < *limit) {
        let detail = format!("{place} in body should have at least {limit} items");
        causes.push(Cause::invalid(place.to_string(), &json!(count), &detail));
    }
}

fn wrong_duplicate(items: &[Value], whole: &Value, schema: Schema<'_>, place: Place<'_>) -> Vec<Cause> {
    let shape = schema.shape(whole);
    let identity = |item: &Value| match &shape {
        super::Shape::ListMap(keys) => {
            Some(keys.iter().map(|key| (key.clone(), item[key].clone())).collect::<serde_json::Map<_, _>>().into())
        }
        super::Shape::Set => Some(item.clone()),
        _ => None,
    };
    let identities: Vec<Option<Value>> = items.iter().map(identity).collect();
    let repeated =
        identities.iter().enumerate().filter(|(index, id)| id.is_some() && identities[..*index].contains(id));
    let causes = repeated.filter_map(|(index, id)| Some(Cause::duplicate(place.item(index).to_string(), id.as_ref()?)));
    causes.collect()
}
