//! The top level of a JSON object, its values left as the bytes they came in.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{
    Deserializer as _, Serialize,
    de::{DeserializeOwned, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::sse::put_json;

/// As most values are, in bytes.
const SHORT: usize = 64;

/// A JSON object's fields in their order; values share the body's memory.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(String, Bytes)>);

impl Fields {
    /// Reads the top level of `body`. Names are folded as Ollama folds them, so that no spelling of `model` gets past
    /// the gateway; of two equal names the later one counts, as it does for Ollama.
    ///
    /// # Errors
    /// What is wrong with the JSON.
    pub fn parse(body: &Bytes) -> Result<Self, serde_json::Error> {
        Self::read_object(body, fold)
    }

    /// The same with names as they are: Ollama folds only those of its own fields, not those of options.
    ///
    /// # Errors
    /// What is wrong with the JSON.
    pub fn parse_exact(object: &Bytes) -> Result<Self, serde_json::Error> {
        Self::read_object(object, |name| name)
    }

    fn read_object(body: &Bytes, spelling: fn(String) -> String) -> Result<Self, serde_json::Error> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let entries = json.deserialize_map(Entries)?;
        json.end()?;
        let mut fields = Self(Vec::with_capacity(entries.len()));
        for (name, value) in entries {
            fields.put(spelling(name), body.slice_ref(value.get().as_bytes()));
        }
        Ok(fields)
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields that are not `null`.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.0.iter().filter(|(_, value)| *value != "null").map(|(name, value)| (name.as_str(), value))
    }

    /// The value of a field; one that is `null` counts as absent.
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// The value of a field as a `T`.
    ///
    /// # Errors
    /// A message that names the field.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, String> {
        let value = self.get(name).map(|value| serde_json::from_slice(value)).transpose();
        value.map_err(|error| format!("{name}: {}", describe(&error)))
    }

    /// Gives a field a value, which has to be JSON.
    pub fn set(&mut self, name: &str, value: Bytes) {
        self.put(name, value);
    }

    fn put(&mut self, name: impl AsRef<str> + Into<String>, value: Bytes) {
        match self.0.iter_mut().find(|(field, _)| field == name.as_ref()) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.into(), value)),
        }
    }

    /// Takes a field out and gives its value, unless that is `null`.
    pub fn remove(&mut self, name: &str) -> Option<Bytes> {
        let at = self.0.iter().position(|(field, _)| field == name)?;
        Some(self.0.remove(at).1).filter(|value| *value != "null")
    }

    /// Takes a field out and gives its value as a `T`.
    ///
    /// # Errors
    /// A message that names the field.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, String> {
        let value = self.read(name)?;
        self.remove(name);
        Ok(value)
    }

    /// The object as JSON, these `first` fields in front.
    pub fn write(&self, first: &[(&str, Bytes)]) -> Bytes {
        let own = self.0.iter().map(|(name, value)| (name.as_str(), value));
        write_object(first.iter().map(|(name, value)| (*name, value)).chain(own))
    }
}

/// A JSON object of these fields.
pub fn write_object<'a>(fields: impl Iterator<Item = (&'a str, &'a Bytes)> + Clone) -> Bytes {
    let length: usize = fields.clone().map(|(name, value)| name.len() + value.len() + 8).sum();
    let mut out = BytesMut::with_capacity(2 + length);
    for (index, (name, value)) in fields.enumerate() {
        out.put_u8(if index == 0 { b'{' } else { b',' });
        put_name(&mut out, name);
        out.put_u8(b':');
        out.put(&value[..]);
    }
    out.put(if out.is_empty() { &b"{}"[..] } else { b"}" });
    out.freeze()
}

/// A field's name as JSON, which seldom needs an escape.
fn put_name(out: &mut BytesMut, name: &str) {
    if name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) {
        out.put_u8(b'"');
        out.put_slice(name.as_bytes());
        out.put_u8(b'"');
    } else {
        put_json(out, name);
    }
}

/// A string or value as JSON.
pub fn json(value: impl Serialize) -> Bytes {
    let mut out = BytesMut::with_capacity(SHORT);
    put_json(&mut out, &value);
    out.freeze()
}

/// What is wrong with some JSON, without the strings in it: they may be of a prompt.
pub fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match (text.find("string \""), text.rfind("\", expected")) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &text[..from + "string".len()], &text[to + 1..]),
        _ => text,
    }
}

/// How Go's JSON decoder compares names: without regard to case, and two odd letters count as `s` and `k`.
fn fold(name: String) -> String {
    if name.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return name;
    }
    name.chars()
        .map(|letter| match letter {
            'ſ' => 's',
            '\u{212a}' => 'k',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}
