//! OpenAPI version 2 as the protobuf that Go clients ask for. The numbers are those of gnostic's `OpenAPIv2.proto`.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a field holds, and how it is put on the wire.
enum Form {
    Text,
    Texts,
    Flag,
    Whole,
    Number,
    /// Anything, as YAML in a message of its own.
    Any,
    Anys,
    One(&'static Message),
    Many(&'static Message),
    /// Inside messages that hold nothing else, by the number of the field in each.
    Inside(&'static [u32], &'static Form),
    ManyInside(&'static [u32], &'static Form),
    /// A map: a message with a field of this number for each entry, which has a name and a value.
    Entries(u32, &'static Form),
    /// A schema, or true or false.
    SchemaOrFlag,
}

/// A message: its fields by name and number, and the number of those whose names begin with `x-`.
struct Message {
    fields: &'static [(&'static str, u32, Form)],
    extensions: u32,
}

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Form::Text),
        ("info", 2, Form::One(&INFO)),
        ("paths", 8, Form::Entries(2, &Form::One(&PATH))),
        ("definitions", 9, Form::Entries(1, &Form::One(&SCHEMA))),
    ],
    extensions: 16,
};
static INFO: Message = Message { fields: &[("title", 1, Form::Text), ("version", 2, Form::Text)], extensions: 7 };
static PATH: Message = Message {
    fields: &[
        ("get", 2, Form::One(&OPERATION)),
        ("put", 3, Form::One(&OPERATION)),
        ("post", 4, Form::One(&OPERATION)),
        ("delete", 5, Form::One(&OPERATION)),
        ("patch", 8, Form::One(&OPERATION)),
    ],
    extensions: 10,
};
static OPERATION: Message = Message {
    fields: &[
        ("consumes", 7, Form::Texts),
        ("parameters", 8, Form::ManyInside(&[1, 2, 3], &Form::One(&PARAMETER))),
        ("responses", 9, Form::Entries(1, &Form::Inside(&[1], &Form::One(&RESPONSE)))),
    ],
    extensions: 13,
};
static PARAMETER: Message = Message {
    fields: &[("in", 2, Form::Text), ("name", 4, Form::Text), ("type", 6, Form::Text), ("uniqueItems", 20, Form::Flag)],
    extensions: 23,
};
static RESPONSE: Message = Message {
    fields: &[("description", 1, Form::Text), ("schema", 2, Form::Inside(&[1], &Form::One(&SCHEMA)))],
    extensions: 5,
};
static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Form::Text),
        ("format", 2, Form::Text),
        ("title", 3, Form::Text),
        ("description", 4, Form::Text),
        ("default", 5, Form::Any),
        ("multipleOf", 6, Form::Number),
        ("maximum", 7, Form::Number),
        ("exclusiveMaximum", 8, Form::Flag),
        ("minimum", 9, Form::Number),
        ("exclusiveMinimum", 10, Form::Flag),
        ("maxLength", 11, Form::Whole),
        ("minLength", 12, Form::Whole),
        ("pattern", 13, Form::Text),
        ("maxItems", 14, Form::Whole),
        ("minItems", 15, Form::Whole),
        ("uniqueItems", 16, Form::Flag),
        ("maxProperties", 17, Form::Whole),
        ("minProperties", 18, Form::Whole),
        ("required", 19, Form::Texts),
        ("enum", 20, Form::Anys),
        ("additionalProperties", 21, Form::SchemaOrFlag),
        ("type", 22, Form::Inside(&[1], &Form::Text)),
        ("items", 23, Form::Inside(&[1], &Form::One(&SCHEMA))),
        ("allOf", 24, Form::Many(&SCHEMA)),
        ("properties", 25, Form::Entries(1, &Form::One(&SCHEMA))),
        ("example", 30, Form::Any),
    ],
    extensions: 31,
};

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;

/// The document on the wire.
pub fn encode(document: &Value) -> Vec<u8> {
    DOCUMENT.encode(document)
}

impl Message {
    fn encode(&self, value: &Value) -> Vec<u8> {
        let mut wire = Vec::new();
        for (name, number, form) in self.fields {
            if let Some(value) = value.get(name) {
                form.put(&mut wire, *number, value);
            }
        }
        let extensions = value.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-"));
        for (name, value) in extensions.collect::<BTreeMap<_, _>>() {
            put_bytes(&mut wire, self.extensions, &entry(name, value, &Form::Any));
        }
        wire
    }
}

impl Form {
    /// Adds a field. As always in version 3 of protobuf, what is empty or zero isn't written.
    fn put(&self, wire: &mut Vec<u8>, number: u32, value: &Value) {
        match self {
            Self::Text => put_text(wire, number, value.as_str().unwrap_or_default()),
            Self::Flag => put_varint_field(wire, number, value.as_bool().unwrap_or_default().into()),
            Self::Whole => put_varint_field(wire, number, value.as_u64().unwrap_or_default()),
            Self::Number => put_double(wire, number, value.as_f64().unwrap_or_default()),
            Self::Texts => {
                items(value).filter_map(Value::as_str).for_each(|text| put_bytes(wire, number, text.as_bytes()));
            }
            Self::Any => put_bytes(wire, number, &any(value)),
            Self::Anys => items(value).for_each(|value| put_bytes(wire, number, &any(value))),
            Self::One(message) => put_bytes(wire, number, &message.encode(value)),
            Self::Many(message) => items(value).for_each(|value| put_bytes(wire, number, &message.encode(value))),
            Self::Inside(path, form) => put_inside(wire, number, path, form, value),
            Self::ManyInside(path, form) => {
                items(value).for_each(|value| put_inside(wire, number, path, form, value));
            }
            Self::Entries(inner, form) => {
                let mut map = Vec::new();
                for (name, value) in value.as_object().into_iter().flatten() {
                    put_bytes(&mut map, *inner, &entry(name, value, form));
                }
                put_bytes(wire, number, &map);
            }
            Self::SchemaOrFlag if value.is_boolean() => put_inside(wire, number, &[2], &Self::Flag, value),
            Self::SchemaOrFlag => put_inside(wire, number, &[1], &Self::One(&SCHEMA), value),
        }
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A name and its value.
fn entry(name: &str, value: &Value, form: &Form) -> Vec<u8> {
    let mut wire = Vec::new();
    put_text(&mut wire, 1, name);
    form.put(&mut wire, 2, value);
    wire
}

/// A value as YAML, of which JSON is a part.
fn any(value: &Value) -> Vec<u8> {
    let mut wire = Vec::new();
    put_text(&mut wire, 2, &value.to_string());
    wire
}

fn put_inside(wire: &mut Vec<u8>, number: u32, path: &[u32], form: &Form, value: &Value) {
    let mut inner = Vec::new();
    match path {
        [] => return form.put(wire, number, value),
        [next, rest @ ..] => put_inside(&mut inner, *next, rest, form, value),
    }
    put_bytes(wire, number, &inner);
}

fn put_text(wire: &mut Vec<u8>, number: u32, text: &str) {
    if !text.is_empty() {
        put_bytes(wire, number, text.as_bytes());
    }
}

fn put_bytes(wire: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(wire, (u64::from(number) << 3) | u64::from(BYTES));
    put_varint(wire, bytes.len() as u64);
    wire.extend_from_slice(bytes);
}

fn put_varint_field(wire: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_varint(wire, (u64::from(number) << 3) | u64::from(VARINT));
        put_varint(wire, value);
    }
}

fn put_double(wire: &mut Vec<u8>, number: u32, value: f64) {
    if value != 0.0 {
        put_varint(wire, (u64::from(number) << 3) | u64::from(FIXED64));
        wire.extend_from_slice(&value.to_le_bytes());
    }
}

fn put_varint(wire: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        wire.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    wire.push(value as u8);
}
