//! What a kind's schema makes of an object: values filled in, unknown fields dropped, rules checked. Pure functions.

mod cel;
mod defaults;
mod duplicates;
mod empty;
mod place;
mod prune;
mod validate;

pub use cel::Rules;
pub use defaults::fill_in;
pub use duplicates::duplicates;
pub use empty::drop_empty;
pub use prune::prune;
pub use validate::{BLOCKED, blocks_rules, check, is_unchanged};

use place::Place;
use serde_json::Value;

/// A schema, or nothing where nothing is known of a value.
#[derive(Clone, Copy, Debug)]
pub struct Schema<'a>(Option<&'a Value>);

/// How two values of one field are merged, and who owns what of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Key by key.
    Map,
    /// Item by item; each is known by these fields of it.
    ListMap(Vec<String>),
    /// Item by item; each is known by its value.
    Set,
    /// As a whole.
    Whole,
}

impl<'a> Schema<'a> {
    /// The schema of a value.
    pub fn new(schema: &'a Value) -> Self {
        Self(Some(schema))
    }

    fn get(self, key: &str) -> Option<&'a Value> {
        self.0?.get(key)
    }

    /// Whether fields of which it says nothing may stay.
    pub fn keeps_unknown(self) -> bool {
        self.0.is_none() || self.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true))
    }

    /// The schema of a field, if it is one that the schema names.
    pub fn declared(self, field: &str) -> Option<Self> {
        self.get("properties")?.get(field).map(Self::new)
    }

    /// The schema of the values of an open map.
    pub fn values(self) -> Option<Self> {
        self.get("additionalProperties").filter(|values| values.is_object()).map(Self::new)
    }

    /// The schema of a field, named or not.
    pub fn field(self, field: &str) -> Self {
        self.declared(field).or_else(|| self.values()).unwrap_or(Self(None))
    }

    /// The schema of an array's items.
    pub fn items(self) -> Self {
        Self(self.get("items"))
    }

    /// How values of this schema are merged.
    pub fn shape(self, value: &Value) -> Shape {
        match value {
            Value::Object(_) if self.text("x-kubernetes-map-type") == Some("atomic") => Shape::Whole,
            Value::Object(_) => Shape::Map,
            Value::Array(_) => match self.text("x-kubernetes-list-type") {
                Some("map") => Shape::ListMap(self.keys()),
                Some("set") => Shape::Set,
                _ => Shape::Whole,
            },
            _ => Shape::Whole,
        }
    }

    /// The default of a key of a list's items, which counts where the key is left out.
    pub fn default_of(self, field: &str) -> Option<&'a Value> {
        self.declared(field)?.get("default")
    }

    /// How a strategic merge patch treats a list: the field that items are known by, if it merges them.
    pub fn patch_strategy(self) -> (Option<&'a str>, Option<&'a str>) {
        (self.text("x-kubernetes-patch-strategy"), self.text("x-kubernetes-patch-merge-key"))
    }

    fn text(self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(Value::as_str)
    }

    fn keys(self) -> Vec<String> {
        let keys = self.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten();
        keys.filter_map(Value::as_str).map(str::to_owned).collect()
    }
}
