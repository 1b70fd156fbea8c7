//! Reads some fields of a JSON text and skips the rest, which is much quicker than to read it all.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};

/// Which fields are read; where none are named, everything is.
#[derive(Debug, Default)]
pub struct Fields(BTreeMap<String, Fields>);

impl Fields {
    /// Adds a field with all that is below it.
    pub fn add(&mut self, path: &[String]) {
        let Some((first, rest)) = path.split_first() else { return self.0.clear() };
        match self.0.get_mut(first) {
            // It is read as a whole already.
            Some(known) if known.0.is_empty() => {}
            Some(known) => known.add(rest),
            None => {
                let mut new = Self::default();
                new.add(rest);
                self.0.insert(first.clone(), new);
            }
        }
    }

    /// The value with these fields; all of it where one of them isn't in an object.
    pub fn read(&self, text: &[u8]) -> Value {
        let some = self.deserialize(&mut serde_json::Deserializer::from_slice(text));
        some.or_else(|_| serde_json::from_slice(text)).unwrap_or_default()
    }
}

impl<'de> DeserializeSeed<'de> for &Fields {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.0.is_empty() { Value::deserialize(deserializer) } else { deserializer.deserialize_map(self) }
    }
}

impl<'de> Visitor<'de> for &Fields {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(wanted) = map.next_key_seed(Name(self))? {
            match wanted {
                Some((name, below)) => fields.insert(name.clone(), map.next_value_seed(below)?),
                None => map.next_value::<IgnoredAny>().map(|_| None)?,
            };
        }
        Ok(Value::Object(fields))
    }
}

/// Looks up a field's name.
struct Name<'a>(&'a Fields);

impl<'de, 'a> DeserializeSeed<'de> for Name<'a> {
    type Value = Option<(&'a String, &'a Fields)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Name<'a> {
    type Value = Option<(&'a String, &'a Fields)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.0.get_key_value(name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_wanted_is_read() {
        let mut fields = Fields::default();
        for path in [&["spec", "model"][..], &["status"], &["status", "phase"], &["spec", "missing"], &["metadata", "name"]] {
            fields.add(&path.iter().map(ToString::to_string).collect::<Vec<_>>());
        }
        let object = json!({
            "kind": "Pull",
            "metadata": { "labels": { "name": "x" }, "name": "n" },
            "spec": { "model": "m", "other": [1, { "model": 2 }] },
            "status": { "phase": "Ready", "nodes": [{ "node": "a" }] },
        });
        let wanted = json!({ "metadata": { "name": "n" }, "spec": { "model": "m" }, "status": object["status"] });
        assert_eq!(fields.read(object.to_string().as_bytes()), wanted);
        let odd = json!({ "spec": null, "status": 1 });
        assert_eq!(fields.read(odd.to_string().as_bytes()), odd);
    }
}
