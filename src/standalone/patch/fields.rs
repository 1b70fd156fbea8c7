//! Sets of fields, as `managedFields` notes them, and what differs between two values.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use serde_json::{Map, Value, json};

use crate::standalone::schema::{Schema, Shape};

/// One step of a path: `f:name`, `k:{…}` for an item by its keys, `v:…` for an item by its value.
pub type Step = String;

/// A set of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    members: BTreeSet<Step>,
    below: BTreeMap<Step, Set>,
}

impl Set {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.below.values().all(Self::is_empty)
    }

    /// Reads the form of `fieldsV1`.
    pub fn from_json(value: &Value) -> Self {
        let mut set = Self::default();
        for (step, inner) in value.as_object().into_iter().flatten().filter(|(step, _)| *step != ".") {
            let fields = inner.as_object();
            if fields.is_none_or(|fields| fields.is_empty() || fields.contains_key(".")) {
                set.members.insert(step.clone());
            }
            let below = Self::from_json(inner);
            if !below.is_empty() {
                set.below.insert(step.clone(), below);
            }
        }
        set
    }

    /// Writes the form of `fieldsV1`.
    pub fn to_json(&self) -> Value {
        let mut fields = Map::new();
        let steps: BTreeSet<_> = self.members.iter().chain(self.below.keys()).collect();
        for step in steps {
            let mut inner = self.below.get(step).map_or_else(|| json!({}), Self::to_json);
            let is_both = self.members.contains(step) && inner.as_object().is_some_and(|inner| !inner.is_empty());
            if is_both && let Value::Object(below) = inner {
                let dot = std::iter::once((".".to_owned(), json!({})));
                inner = dot.chain(below).collect::<Map<_, _>>().into();
            }
            fields.insert(step.clone(), inner);
        }
        Value::Object(fields)
    }

    /// Every field of a value that its writer meant: leaves, items, and keys of open maps.
    pub fn of(value: &Value, schema: Schema<'_>) -> Self {
        let mut set = Self::default();
        match (value, schema.shape(value)) {
            (Value::Object(fields), Shape::Map) => {
                for (name, value) in fields {
                    let (step, inner) = (field_step(name), schema.field(name));
                    let open = schema.declared(name).is_none();
                    set.add(step, value, inner, open);
                }
            }
            (Value::Array(items), shape @ (Shape::ListMap(_) | Shape::Set)) => {
                for item in items {
                    set.add(item_step(item, &shape, schema.items()), item, schema.items(), true);
                }
            }
            _ => {}
        }
        set
    }

    fn add(&mut self, step: Step, value: &Value, schema: Schema<'_>, itself: bool) {
        let leaf = is_leaf(value, schema);
        let empty = value.as_object().is_some_and(Map::is_empty);
        if leaf || itself || empty {
            self.members.insert(step.clone());
        }
        if !leaf {
            let below = Self::of(value, schema);
            if !below.is_empty() {
                self.below.insert(step, below);
            }
        }
    }

    /// What is in either.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        if self.members.is_empty() && self.below.is_empty() {
            return other;
        }
        self.members.extend(other.members);
        for (step, below) in other.below {
            let known = self.below.entry(step).or_default();
            *known = std::mem::take(known).union(below);
        }
        self
    }

    /// What is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let members = self.members.intersection(&other.members).cloned().collect();
        let below = self.below.iter().filter_map(|(step, below)| {
            let both = below.intersection(other.below.get(step)?);
            (!both.is_empty()).then(|| (step.clone(), both))
        });
        Self { members, below: below.collect() }
    }

    /// What is in this one only.
    #[must_use]
    pub fn difference(mut self, other: &Self) -> Self {
        self.subtract(other);
        self
    }

    /// Takes out what is in another one.
    pub fn subtract(&mut self, other: &Self) {
        for step in &other.members {
            self.members.remove(step);
        }
        for (step, gone) in &other.below {
            if let Some(below) = self.below.get_mut(step) {
                below.subtract(gone);
                if below.is_empty() {
                    self.below.remove(step);
                }
            }
        }
    }

    /// Takes out the fields at a path and below it.
    pub fn remove(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => {
                self.members.remove(*last);
                self.below.remove(*last);
            }
            [first, inner @ ..] => {
                if let Some(below) = self.below.get_mut(*first) {
                    below.remove(inner);
                    if below.is_empty() {
                        self.below.remove(*first);
                    }
                }
            }
        }
    }

    /// Takes out one step itself; what is below it stays.
    pub fn remove_itself(&mut self, step: &str) {
        self.members.remove(step);
    }

    /// Whether a step or anything below it is in the set.
    pub fn touches(&self, step: &str) -> bool {
        self.members.contains(step) || self.below.get(step).is_some_and(|below| !below.is_empty())
    }

    /// Whether a step itself is in the set.
    pub fn has(&self, step: &str) -> bool {
        self.members.contains(step)
    }

    /// What is in the set below a step.
    pub fn below(&self, step: &str) -> Option<&Self> {
        self.below.get(step)
    }

    /// Each field as a path such as `.spec.ports[port=80].name`; those of a level before those below it.
    pub fn paths(&self) -> Vec<String> {
        let mut members: Vec<&Step> = self.members.iter().collect();
        let mut below: Vec<(&Step, &Set)> = self.below.iter().collect();
        members.sort_by(|one, other| compare_steps(one, other));
        below.sort_by(|(one, _), (other, _)| compare_steps(one, other));
        let own = members.into_iter().map(|step| readable(step));
        let below = below
            .into_iter()
            .flat_map(|(step, below)| below.paths().into_iter().map(move |path| format!("{}{path}", readable(step))));
        own.chain(below).collect()
    }

    fn insert(&mut self, path: &[Step]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.below.entry(first.clone()).or_default().insert(rest),
        }
    }
}

/// The order in which people are told of steps: keys that are numbers, by their size.
fn compare_steps(one: &Step, other: &Step) -> Ordering {
    let numbers = |step: &Step| -> Vec<Option<i64>> {
        let keys = step.strip_prefix("k:").and_then(|keys| serde_json::from_str::<Map<_, _>>(keys).ok());
        keys.unwrap_or_default().values().map(Value::as_i64).collect()
    };
    numbers(one).cmp(&numbers(other)).then_with(|| one.cmp(other))
}

fn readable(step: &str) -> String {
    match step.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<_> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        Some(("v", value)) => format!("[={value}]"),
        _ => step.to_owned(),
    }
}

/// The step to a field.
pub fn field_step(name: &str) -> Step {
    format!("f:{name}")
}

/// The step to an item of a list.
pub fn item_step(item: &Value, shape: &Shape, items: Schema<'_>) -> Step {
    match shape {
        Shape::ListMap(keys) => {
            let value = |key: &String| item.get(key).or_else(|| items.default_of(key)).cloned();
            let keys: BTreeMap<_, _> = keys.iter().filter_map(|key| Some((key, value(key)?))).collect();
            format!("k:{}", json!(keys))
        }
        _ => format!("v:{item}"),
    }
}

fn is_leaf(value: &Value, schema: Schema<'_>) -> bool {
    !(value.is_object() || value.is_array()) || schema.shape(value) == Shape::Whole
}

/// What differs between two values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Only in the second.
    pub added: Set,
    /// In both, with other values.
    pub modified: Set,
    /// Only in the first.
    pub removed: Set,
}

impl Difference {
    /// The difference but for the fields at a path and below it.
    pub fn without(mut self, path: &[&str]) -> Self {
        for set in [&mut self.added, &mut self.modified, &mut self.removed] {
            set.remove(path);
        }
        self
    }
}

/// Compares two values of one schema; the first is null where there was nothing.
pub fn compare(before: &Value, after: &Value, schema: Schema<'_>) -> Difference {
    let mut difference = Difference::default();
    let before = Some(before).filter(|before| !before.is_null());
    walk(before, Some(after), schema, &mut Vec::new(), &mut difference);
    difference
}

fn walk(
    before: Option<&Value>,
    after: Option<&Value>,
    schema: Schema<'_>,
    path: &mut Vec<Step>,
    found: &mut Difference,
) {
    if before == after {
        return;
    }
    let note = |set: &mut Set| set.insert(path);
    let shape = |value: Option<&Value>| value.map(|value| schema.shape(value));
    let is_granular = |value: Option<&Value>| value.is_none_or(|value| !is_leaf(value, schema));
    let empty = |value: Option<&Value>| value.is_none_or(|value| children(value, schema).is_empty());
    let same_shape = before.is_none() || after.is_none() || shape(before) == shape(after);
    if !same_shape || !is_granular(before) || !is_granular(after) || (empty(before) && empty(after)) {
        match (before, after) {
            (None, Some(_)) => note(&mut found.added),
            (Some(_), None) => note(&mut found.removed),
            (Some(before), Some(after)) if before != after => note(&mut found.modified),
            _ => {}
        }
        return;
    }
    match (before, after) {
        (None, Some(_)) => note(&mut found.added),
        (Some(_), None) => note(&mut found.removed),
        _ => {}
    }
    let (old, new) = (before.map(|v| children(v, schema)), after.map(|v| children(v, schema)));
    let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
    let steps: BTreeSet<&Step> = old.keys().chain(new.keys()).collect();
    for step in steps {
        let (before, after) = (old.get(step), new.get(step));
        let Some(schema) = before.or(after).map(|(_, schema)| *schema) else { continue };
        path.push(step.clone());
        walk(before.map(|(value, _)| *value), after.map(|(value, _)| *value), schema, path, found);
        path.pop();
    }
}

/// The parts of a value that are known by themselves.
pub fn children<'v, 's>(value: &'v Value, schema: Schema<'s>) -> BTreeMap<Step, (&'v Value, Schema<'s>)> {
    match (value, schema.shape(value)) {
        (Value::Object(fields), Shape::Map) => {
            fields.iter().map(|(name, value)| (field_step(name), (value, schema.field(name)))).collect()
        }
        (Value::Array(items), shape @ (Shape::ListMap(_) | Shape::Set)) => {
            let inner = schema.items();
            items.iter().map(|item| (item_step(item, &shape, inner), (item, inner))).collect()
        }
        _ => BTreeMap::new(),
    }
}
