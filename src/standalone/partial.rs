//! Some fields of an object, read from its text or copied from its value: much quicker than to read or copy all of it.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};

/// Some fields of an object; none at first.
#[derive(Debug, Default)]
pub struct Fields {
    all: bool,
    below: BTreeMap<String, Fields>,
}

impl Fields {
    /// Everything.
    pub fn all() -> Self {
        Self { all: true, below: BTreeMap::new() }
    }

    /// Adds the field at a path, with all that is below it.
    pub fn add(&mut self, path: &[String]) {
        match path.split_first() {
            _ if self.all => {}
            None => *self = Self::all(),
            Some((first, rest)) => self.below.entry(first.clone()).or_default().add(rest),
        }
    }

    /// A copy of these fields of a value; what is no object is copied as it is.
    pub fn pick(&self, value: &Value) -> Value {
        match value {
            Value::Object(fields) if !self.all => {
                let wanted = self.below.iter();
                let found = wanted.filter_map(|(name, below)| Some((name.clone(), below.pick(fields.get(name)?))));
                Value::Object(found.collect())
            }
            _ => value.clone(),
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
        if self.all { Value::deserialize(deserializer) } else { deserializer.deserialize_map(self) }
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
        Ok(self.0.below.get_key_value(name))
    }
}
