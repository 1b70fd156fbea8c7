//! What becomes of an object on its way from a request into storage, as functions of the object alone.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{builtin, events, names};
use crate::standalone::{
    kinds::Kind,
    patch::Managers,
    request::{Request, Verb},
    schema::{self, Schema},
    status::{Cause, Failure},
};

const NAME_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const GENERATED_LETTERS: usize = 5;
/// What of `metadata` an update can't change.
const SERVERS_OWN: [&str; 7] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "namespace",
    "selfLink",
];

/// The time, as objects have it.
pub fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A random identifier.
pub fn uid() -> String {
    let bits: u128 = (rand::random::<u128>() & !(0xf << 76) & !(0b11 << 62)) | (0x4 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// A text field, or empty.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

/// `metadata` keeps nothing that is empty.
pub fn drop_empty(object: &mut Value) {
    let is_empty = |value: &Value| {
        value.is_null() || value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
    };
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|_, value| !is_empty(value));
    }
}

/// Takes a field away.
pub fn remove(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove(field);
    }
}

/// The end of a generated name.
pub fn random_letters() -> String {
    let letter = |_| char::from(NAME_LETTERS[usize::from(rand::random::<u8>()) % NAME_LETTERS.len()]);
    (0..GENERATED_LETTERS).map(letter).collect()
}

/// What a new object is compared with: for a built-in kind, its parts are there and empty.
pub fn nothing(kind: &Kind) -> Value {
    if kind.custom {
        return Value::Null;
    }
    let parts = ["metadata", "spec", "status"].into_iter().filter(|part| kind.schema["properties"][part].is_object());
    Value::Object(parts.map(|part| (part.to_owned(), json!({}))).collect())
}

/// The object of a request, in the form that is stored.
///
/// # Errors
/// When it isn't one of the kind, or not one of the namespace.
pub fn decoded(object: Value, request: &Request) -> Result<Value, Failure> {
    let kind = &request.kind;
    let mut object = object;
    if !object.is_object() {
        return Err(Failure::bad_request("the object provided is unrecognized: it is not a map"));
    }
    let (given, wanted) = (text(&object, "apiVersion").to_owned(), kind.api_version());
    if given != wanted && (kind.custom || !given.is_empty()) {
        return Err(Failure::bad_request(format!(
            "the API version in the data ({given}) does not match the expected API version ({wanted})"
        )));
    }
    let given = text(&object, "kind").to_owned();
    if given != kind.kind && (kind.custom || !given.is_empty()) {
        let cause = Cause::invalid("kind", &json!(given), &format!("must be {}", kind.kind));
        let name = text(&object["metadata"], "name").to_owned();
        return Err(Failure::invalid(kind, &name, &[cause]).with_kind(kind, &given));
    }
    object["apiVersion"] = json!(wanted);
    object["kind"] = json!(kind.kind);
    if object["metadata"].is_null() {
        object["metadata"] = Map::new().into();
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
    let metadata = schema::check(&object["metadata"], Schema::new(&kind.schema).field("metadata"), "metadata");
    if let Some(cause) = metadata.iter().find(|cause| cause.reason == "FieldValueTypeInvalid") {
        let (name, version) = (&kind.kind, &kind.version);
        return Err(Failure::bad_request(format!(
            "{name} in version \"{version}\" cannot be handled as a {name}: {}: {}",
            cause.field, cause.message
        )));
    }
    let namespace = text(&object["metadata"], "namespace");
    if !namespace.is_empty() && request.namespace.as_deref() != Some(namespace) {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Failure::bad_request(why));
    }
    let mut object = events::stored(object, kind);
    if &*kind.stored_as == "events" {
        object["apiVersion"] = json!("v1");
    }
    Ok(object)
}

/// Drops unknown fields and fills in defaults; says what was dropped.
///
/// # Errors
/// When unknown fields shall be refused.
pub fn admit(object: &mut Value, request: &Request) -> Result<Vec<String>, Failure> {
    let kind = &request.kind;
    if &*kind.stored_as == "events" {
        return Ok(Vec::new());
    }
    let schema = Schema::new(&kind.schema);
    let mut unknown = schema::prune(object, schema);
    for name in duplicates(request) {
        unknown.push(name);
    }
    let faults: Vec<_> = unknown
        .iter()
        .map(|path| match path.strip_prefix('=') {
            Some(path) => format!("duplicate field \"{path}\""),
            None => format!("unknown field \"{path}\""),
        })
        .collect();
    schema::fill_in(object, schema);
    builtin::fill_in(object, kind);
    drop_empty(object);
    match request.parameter("fieldValidation") {
        _ if faults.is_empty() => Ok(faults),
        "Strict" if request.verb == Verb::Patch => {
            let detail = format!("strict decoding error: {}", faults.join(", "));
            Err(Failure::bad_options("", &[Cause::invalid("patch", &json!("{}"), &detail)]))
        }
        "Strict" => {
            let (name, version, faults) = (&kind.kind, &kind.version, faults.join(", "));
            Err(Failure::bad_request(format!(
                "{name} in version \"{version}\" cannot be handled as a {name}: strict decoding error: {faults}"
            )))
        }
        "Ignore" => Ok(Vec::new()),
        _ => Ok(faults),
    }
}

/// The paths of fields that stand twice in one map of the body, each after `=`.
fn duplicates(request: &Request) -> Vec<String> {
    let is_object = matches!(request.content_type.as_str(), "application/json" | "");
    let found = if is_object { schema::duplicates(&request.body) } else { Vec::new() };
    found.into_iter().map(|path| format!("={path}")).collect()
}

/// Takes status out of a main request's hands, or all else out of a status request's.
pub fn reset_status(object: &mut Value, live: Option<&Value>, kind: &Kind) {
    if !kind.has_status {
        return;
    }
    match live.map(|live| &live["status"]).filter(|status| !status.is_null()) {
        Some(status) => object["status"] = status.clone(),
        None => remove(object, "status"),
    }
}

/// The live object with that part of the given one that the request may write.
pub fn in_part(live: &Value, given: Value, request: &Request) -> Value {
    let mut object = given;
    match request.subresource.as_str() {
        "status" => {
            let status = object["status"].take();
            object = live.clone();
            if status.is_null() {
                remove(&mut object, "status");
            } else {
                object["status"] = status;
            }
        }
        "finalize" => {
            let finalizers = object["spec"]["finalizers"].take();
            object = live.clone();
            object["spec"]["finalizers"] = finalizers;
        }
        _ => reset_status(&mut object, Some(live), &request.kind),
    }
    object
}

/// The object as it will be stored: the server's own fields put right, and every rule checked.
///
/// # Errors
/// 422 with everything that is wrong.
pub fn settled(live: &Value, object: Value, managers: Managers, request: &Request) -> Result<Value, Failure> {
    let kind = &request.kind;
    let mut object = object;
    for field in SERVERS_OWN {
        match live["metadata"].get(field) {
            Some(value) => object["metadata"][field] = value.clone(),
            None => remove(&mut object["metadata"], field),
        }
    }
    object["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
    if kind.has_generation && spec_differs(live, &object) {
        let generation = live["metadata"]["generation"].as_i64().unwrap_or_default();
        object["metadata"]["generation"] = json!(generation + 1);
    }
    managers.write(&mut object);
    drop_empty(&mut object);
    check_object(&object, Some(live), kind, request.name())?;
    Ok(object)
}

fn spec_differs(live: &Value, object: &Value) -> bool {
    fn parts(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
        let fields = object.as_object().into_iter().flatten();
        fields.filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"))
    }
    parts(live).count() != parts(object).count() || parts(live).any(|(name, value)| object.get(name) != Some(value))
}

/// Checks every rule.
///
/// # Errors
/// 422 with everything that is wrong.
pub fn check_object(object: &Value, live: Option<&Value>, kind: &Kind, name: &str) -> Result<(), Failure> {
    let mut causes = names::check_metadata(object, kind);
    causes.extend(live.and_then(|live| new_finalizers(object, live)));
    if &*kind.stored_as != "events" {
        let faults = schema::check(object, Schema::new(&kind.schema), "");
        causes.extend(faults.into_iter().filter(|cause| kind.custom || !cause.field.starts_with("metadata.")));
    }
    if let Some(live) = live {
        causes.retain(|cause| !schema::is_unchanged(&cause.field, live, object));
    }
    causes.extend(builtin::check(object, live, kind));
    if kind.has_rules {
        if causes.iter().any(schema::blocks_rules) {
            causes.push(Cause::invalid("<nil>", &Value::Null, schema::BLOCKED));
        } else {
            causes.extend(kind.rules.check(object, live));
        }
    }
    if causes.is_empty() { Ok(()) } else { Err(Failure::invalid(kind, name, &causes)) }
}

fn new_finalizers(object: &Value, live: &Value) -> Option<Cause> {
    if !live["metadata"]["deletionTimestamp"].is_string() {
        return None;
    }
    let known = live["metadata"]["finalizers"].as_array();
    let given = object["metadata"]["finalizers"].as_array()?;
    let new: Vec<_> = given.iter().filter(|name| known.is_none_or(|known| !known.contains(name))).collect();
    let list = new.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"
    );
    (!new.is_empty()).then(|| Cause::forbidden("metadata.finalizers", &detail))
}
