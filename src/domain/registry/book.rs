//! The registry as one file.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Stage;
use crate::domain::rollout::{HistoryEntry, State};

/// What a file says that it is.
pub const FORMAT: &str = "drover.dev/registry-v1";

/// Models with their versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Book {
    /// [`FORMAT`].
    pub format: String,
    /// By name.
    pub models: BTreeMap<String, ModelRecord>,
}

/// A model: what serves, what served, and every version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelRecord {
    /// The version that serves.
    pub current: Option<String>,
    /// The version on trial.
    pub canary: Option<String>,
    /// What went live and what was taken back, newest first.
    #[serde(default)]
    pub history: Vec<HistoryEntry>,
    /// By version.
    pub versions: BTreeMap<String, VersionRecord>,
}

/// A version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VersionRecord {
    /// The name of its object.
    pub name: String,
    /// Where it is in its life.
    #[serde(with = "stage_text")]
    pub lifecycle: Stage,
    /// The digest that its tag was resolved to; a provider's model has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// When it last began to serve all requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed_at: Option<Timestamp>,
    /// What it is; null where there was no room for it.
    #[serde(default)]
    pub spec: Value,
}

impl Book {
    /// A file with these models.
    pub fn new(models: BTreeMap<String, ModelRecord>) -> Self {
        Self { format: FORMAT.into(), models }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let book: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if book.format != FORMAT {
            return Err(format!("its format is {:?}, and only {FORMAT:?} is known", book.format));
        }
        for (model, record) in &book.models {
            for (version, entry) in &record.versions {
                let names = [("model", model), ("version", version)];
                let is_other = |(field, name): &(&str, &String)| entry.spec.is_object() && entry.spec[*field] != **name;
                if let Some((field, name)) = names.into_iter().find(is_other) {
                    return Err(format!("{model} {version}: spec.{field} is not {name}"));
                }
            }
        }
        Ok(book)
    }
}

impl ModelRecord {
    /// A model with these versions, as the rollout of its deployment has it.
    pub fn new(state: Option<&State>, versions: BTreeMap<String, VersionRecord>) -> Self {
        Self {
            current: state.and_then(State::stable_version).map(str::to_owned),
            canary: state.and_then(State::canary_version).map(str::to_owned),
            history: state.map(|state| state.history.clone()).unwrap_or_default(),
            versions,
        }
    }
}

mod stage_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Stage;

    pub fn serialize<S: Serializer>(stage: &Stage, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(stage)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Stage, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
