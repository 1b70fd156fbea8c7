//! The top level of a JSON object, its values left as the bytes they came in.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{
    Deserializer as _,
    de::{DeserializeOwned, MapAccess, Visitor},
};
use serde_json::value::RawValue;

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
        let mut json = serde_json::Deserializer::from_slice(body);
        let entries = json.deserialize_map(Entries)?;
        json.end()?;
        let mut fields = Self(Vec::with_capacity(entries.len()));
        for (name, value) in entries {
            fields.set(&fold(&name), body.slice_ref(value.get().as_bytes()));
        }
        Ok(fields)
    }

    /// The value of a field; one that is `null` counts as absent.
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value).filter(|value| **value != "null")
    }

    /// The value of a field as a `T`.
    ///
    /// # Errors
    /// A message that names the field.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, String> {
        let value = self.get(name).map(|value| serde_json::from_slice(value)).transpose();
        value.map_err(|error| format!("{name}: {error}"))
    }

    /// Gives a field a value, which has to be JSON.
    pub fn set(&mut self, name: &str, value: Bytes) {
        match self.0.iter_mut().find(|(field, _)| field == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.into(), value)),
        }
    }

    /// Takes a field out.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(field, _)| field != name);
    }

    /// The object as JSON, these `first` fields in front.
    pub fn write(&self, first: &[(&str, Bytes)]) -> Bytes {
        let own = self.0.iter().map(|(name, value)| (name.as_str(), value));
        let all = || first.iter().map(|(name, value)| (*name, value)).chain(own.clone());
        let mut out =
            BytesMut::with_capacity(2 + all().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>());
        for (index, (name, value)) in all().enumerate() {
            out.put_u8(if index == 0 { b'{' } else { b',' });
            out.put(&json(name)[..]);
            out.put_u8(b':');
            out.put(&value[..]);
        }
        out.put(if out.is_empty() { &b"{}"[..] } else { b"}" });
        out.freeze()
    }
}

/// A string or value as JSON.
pub fn json(value: impl Into<serde_json::Value>) -> Bytes {
    value.into().to_string().into()
}

/// How Go's JSON decoder compares names: without regard to case, and two odd letters count as `s` and `k`.
fn fold(name: &str) -> String {
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
