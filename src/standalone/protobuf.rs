//! Reads objects of Kubernetes' own kinds that clients send as protobuf, as `kubectl create` does. Answers are JSON.

use std::{collections::HashMap, sync::LazyLock};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

const MAGIC: &[u8] = b"k8s\0";

type Fields = HashMap<String, (String, String)>;

/// The numbers, names and types of fields by message, taken from Kubernetes' own `generated.proto` files.
// The file is a part of the program and is read by tests: an empty map would be seen at once.
static MESSAGES: LazyLock<HashMap<String, Fields>> =
    LazyLock::new(|| serde_json::from_str(include_str!("kinds/protobuf.json")).unwrap_or_default());

/// One field as it is on the wire.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The object in an envelope of Kubernetes.
pub fn decode(body: &[u8]) -> Option<Value> {
    let envelope = fields(body.strip_prefix(MAGIC)?)?;
    let bytes = |wanted: u64, all: &[(u64, Wire<'_>)]| {
        all.iter().find_map(|(number, wire)| match wire {
            Wire::Bytes(bytes) if *number == wanted => Some(bytes.to_vec()),
            _ => None,
        })
    };
    let kind = bytes(1, &envelope).unwrap_or_default();
    let kind = fields(&kind)?;
    let text = |wanted| String::from_utf8(bytes(wanted, &kind).unwrap_or_default()).ok();
    let (api_version, kind) = (text(1)?, text(2)?);
    let message = format!("{}/{kind}", place(&api_version, &kind));
    let mut object = message_value(&bytes(2, &envelope)?, MESSAGES.get(&message)?)?;
    object.insert("apiVersion".into(), json!(api_version));
    object.insert("kind".into(), json!(kind));
    Some(Value::Object(object))
}

fn place<'a>(api_version: &'a str, kind: &str) -> &'a str {
    match (api_version, kind) {
        (_, "DeleteOptions") => "meta",
        ("v1", _) => "core",
        _ => api_version.split(['.', '/']).next().unwrap_or_default(),
    }
}

fn message_value(bytes: &[u8], known: &Fields) -> Option<Map<String, Value>> {
    let mut object = Map::new();
    for (number, wire) in fields(bytes)? {
        let Some((name, kind)) = known.get(&number.to_string()) else { continue };
        if let Some(kind) = kind.strip_prefix('*') {
            let item = value(&wire, kind)?;
            let items = object.entry(name.clone()).or_insert_with(|| json!([]));
            items.as_array_mut()?.push(item);
        } else if let Some(kind) = kind.strip_prefix("map<string,") {
            let (key, item) = entry(&wire, kind.trim_end_matches('>'))?;
            object.entry(name.clone()).or_insert_with(|| json!({})).as_object_mut()?.insert(key, item);
        } else {
            let value = value(&wire, kind)?;
            // Go writes empty texts and zeros where JSON has nothing.
            if value != json!("") && !value.is_null() {
                object.insert(name.clone(), value);
            }
        }
    }
    Some(object)
}

fn value(wire: &Wire<'_>, kind: &str) -> Option<Value> {
    Some(match (wire, kind) {
        (Wire::Number(number), "bool") => json!(*number != 0),
        (Wire::Number(number), _) => json!(number.cast_signed()),
        (Wire::Bytes(bytes), "string") => json!(std::str::from_utf8(bytes).ok()?),
        (Wire::Bytes(bytes), "bytes") => json!(BASE64_STANDARD.encode(bytes)),
        (Wire::Bytes(bytes), "Time" | "MicroTime") => time(bytes)?,
        (Wire::Bytes(bytes), "IntOrString") => int_or_string(bytes)?,
        (Wire::Bytes(bytes), "FieldsV1") => {
            fields(bytes)?.into_iter().next().map_or(json!({}), |(_, wire)| match wire {
                Wire::Bytes(raw) => serde_json::from_slice(raw).unwrap_or_default(),
                Wire::Number(_) => Value::Null,
            })
        }
        (Wire::Bytes(bytes), message) => Value::Object(message_value(bytes, MESSAGES.get(message)?)?),
    })
}

fn entry(wire: &Wire<'_>, kind: &str) -> Option<(String, Value)> {
    let Wire::Bytes(bytes) = wire else { return None };
    let (mut key, mut item) = (String::new(), json!(""));
    for (number, wire) in fields(bytes)? {
        match number {
            1 => key = value(&wire, "string")?.as_str()?.to_owned(),
            2 => item = value(&wire, kind)?,
            _ => {}
        }
    }
    Some((key, item))
}

fn time(bytes: &[u8]) -> Option<Value> {
    let (mut seconds, mut nanos) = (0, 0);
    for (number, wire) in fields(bytes)? {
        match (number, wire) {
            (1, Wire::Number(number)) => seconds = number.cast_signed(),
            (2, Wire::Number(number)) => nanos = i32::try_from(number).ok()?,
            _ => {}
        }
    }
    if seconds == 0 && nanos == 0 {
        return Some(Value::Null);
    }
    Some(json!(Timestamp::new(seconds, nanos).ok()?.to_string()))
}

fn int_or_string(bytes: &[u8]) -> Option<Value> {
    let (mut is_text, mut number, mut text) = (false, 0, json!(""));
    for (field, wire) in fields(bytes)? {
        match (field, wire) {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(value)) => number = value.cast_signed(),
            (3, wire @ Wire::Bytes(_)) => text = value(&wire, "string")?,
            _ => {}
        }
    }
    Some(if is_text { text } else { json!(number) })
}

/// The fields of a message.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Wire<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let wire = match tag & 7 {
            0 => Wire::Number(varint(&mut bytes)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (inner, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Wire::Bytes(inner)
            }
            _ => return None,
        };
        found.push((tag >> 3, wire));
    }
    Some(found)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
