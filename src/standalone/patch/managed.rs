//! Who wrote which fields: `metadata.managedFields`.

use serde_json::{Value, json};

use super::fields::{Set, compare};
use crate::standalone::schema::Schema;

/// Fields that nobody owns, because they name the object or are the server's.
const UNOWNED: [&str; 9] = [
    "f:name",
    "f:namespace",
    "f:creationTimestamp",
    "f:deletionTimestamp",
    "f:uid",
    "f:generation",
    "f:managedFields",
    "f:resourceVersion",
    "f:selfLink",
];

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// The name it gave.
    pub name: String,
    /// Whether it applies, or else writes in any other way.
    pub applies: bool,
    /// The version that its fields are noted in.
    pub api_version: String,
    /// The subresource that it writes, or empty.
    pub subresource: String,
}

impl Manager {
    /// How a conflict names it.
    pub fn label(&self) -> String {
        let name = match self.subresource.as_str() {
            "" => format!("\"{}\"", self.name),
            subresource => format!("\"{}\" with subresource \"{subresource}\"", self.name),
        };
        if self.applies { name } else { format!("{name} using {}", self.api_version) }
    }
}

/// One manager with its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Who.
    pub manager: Manager,
    /// When it changed them last.
    pub time: Option<String>,
    /// What.
    pub fields: Set,
}

impl Owned {
    /// By what a conflict lists several, which is not their order in `managedFields`: an API server sorts them by their
    /// entries as JSON.
    pub fn rank(&self) -> impl Ord + '_ {
        let Manager { name, applies, api_version, subresource } = &self.manager;
        (name, !applies, api_version, self.time.as_deref().filter(|_| !applies), subresource)
    }
}

/// Everybody who wrote an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managers(pub Vec<Owned>);

impl Managers {
    /// Reads `metadata.managedFields`.
    pub fn of(object: &Value) -> Self {
        let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let owned = entries.map(|entry| Owned {
            manager: Manager {
                name: text(&entry["manager"]),
                applies: entry["operation"] == "Apply",
                api_version: text(&entry["apiVersion"]),
                subresource: text(&entry["subresource"]),
            },
            time: entry["time"].as_str().map(str::to_owned),
            fields: Set::from_json(&entry["fieldsV1"]),
        });
        Self(owned.collect())
    }

    /// Writes `metadata.managedFields`.
    pub fn write(mut self, object: &mut Value) {
        self.0.retain(|owned| !owned.fields.is_empty());
        self.0.sort_by(|a, b| order(a).cmp(&order(b)));
        let entries: Vec<_> = self.0.iter().map(entry).collect();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            if entries.is_empty() {
                metadata.shift_remove("managedFields");
            } else {
                metadata.insert("managedFields".into(), Value::Array(entries));
            }
        }
    }

    /// The fields of one of them.
    pub fn fields_of(&self, manager: &Manager) -> Option<&Set> {
        self.0.iter().find(|owned| owned.manager == *manager).map(|owned| &owned.fields)
    }

    /// Notes what somebody changed by any way but applying: they own it, and nobody else does.
    pub fn note_update(&mut self, before: &Value, after: &Value, schema: Schema<'_>, manager: &Manager, now: &str) {
        let difference = compare(before, after, schema).without(&["f:metadata", "f:managedFields"]);
        let changed = owned_part(difference.added.union(difference.modified));
        if changed.is_empty() && difference.removed.is_empty() {
            return;
        }
        for owned in &mut self.0 {
            owned.fields.subtract(&difference.removed);
            if owned.manager != *manager {
                owned.fields.subtract(&changed);
            }
        }
        let mine = self.fields_of(manager).cloned().unwrap_or_default();
        self.set(manager, mine.union(changed), Some(now.to_owned()));
    }

    /// Sets what one of them owns.
    pub fn set(&mut self, manager: &Manager, fields: Set, time: Option<String>) {
        match self.0.iter_mut().find(|owned| owned.manager == *manager) {
            Some(owned) => {
                owned.fields = fields;
                owned.time = time;
            }
            None => self.0.push(Owned { manager: manager.clone(), time, fields }),
        }
    }
}

fn order(owned: &Owned) -> (bool, Option<&str>, &str, &str, &str) {
    let Manager { name, applies, api_version, subresource } = &owned.manager;
    (!applies, owned.time.as_deref(), name, api_version, subresource)
}

fn entry(owned: &Owned) -> Value {
    let Manager { name, applies, api_version, subresource } = &owned.manager;
    let mut entry = json!({
        "manager": name,
        "operation": if *applies { "Apply" } else { "Update" },
        "apiVersion": api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": owned.fields.to_json(),
    });
    if let Some(time) = &owned.time {
        entry["time"] = json!(time);
    }
    if !subresource.is_empty() {
        entry["subresource"] = json!(subresource);
    }
    entry
}

/// Without the fields that nobody owns.
pub fn owned_part(mut set: Set) -> Set {
    set.remove(&["f:apiVersion"]);
    set.remove(&["f:kind"]);
    set.remove_itself("f:metadata");
    UNOWNED.iter().for_each(|field| set.remove(&["f:metadata", field]));
    set
}
