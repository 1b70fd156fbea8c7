//! Fields that stand twice in one map of a JSON text.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashSet},
    fmt,
};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::Place;

/// The paths of such fields, sorted; none when the text is no JSON.
pub fn duplicates(text: &[u8]) -> Vec<String> {
    let found = RefCell::new(BTreeSet::new());
    let walk = Walk { place: Place::Start(""), found: &found };
    // What can't be read is said elsewhere.
    let _ = walk.deserialize(&mut serde_json::Deserializer::from_slice(text));
    found.into_inner().into_iter().collect()
}

#[derive(Clone, Copy)]
struct Walk<'a> {
    place: Place<'a>,
    found: &'a RefCell<BTreeSet<String>>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let place = self.place.field(&name);
            map.next_value_seed(Walk { place, found: self.found })?;
            if seen.contains(&name) {
                self.found.borrow_mut().insert(place.to_string());
            }
            seen.insert(name);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut index = 0;
        while items.next_element_seed(Walk { place: self.place.item(index), found: self.found })?.is_some() {
            index += 1;
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
