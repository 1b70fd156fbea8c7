use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{HasConditions, conditions_schema, parameters_schema};
use crate::domain::{
    conditions::Condition,
    model_db::{Entry, Layer},
};

/// What is known of models, besides what Drover knows by itself; and the default model of each capability.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "drover.dev",
    version = "v1alpha1",
    kind = "ModelCatalog",
    namespaced,
    status = "ModelCatalogStatus",
    derive = "PartialEq",
    shortname = "mcat",
    category = "drover",
    doc = "What is known of models, besides what Drover knows by itself; and the default model of each capability.",
    printcolumn(name = "Entries", type_ = "integer", json_path = ".status.entries"),
    printcolumn(name = "Conflicts", type_ = "integer", json_path = ".status.conflictCount"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Defaults", type_ = "string", json_path = ".spec.defaults", priority = "1"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 128").message("metadata.name must have at most 128 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct ModelCatalogSpec {
    /// The default model of each capability, which `auto:CAPABILITY` stands for: `chat`, `code`, `vision`, `embedding`, `tools`,
    /// `thinking`, `json`, and `fast`, the small model.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 64))]
    pub defaults: BTreeMap<String, String>,
    /// What is known of the models that a pattern fits. The most specific pattern wins, whatever the order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub entries: Vec<CatalogEntry>,
}

/// What is known of the models that a pattern fits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CatalogEntry {
    /// The pattern, and facts.
    #[serde(flatten)]
    pub entry: Entry,
    /// What the models are called with where nobody says another value, in Ollama's words: `num_ctx`, `temperature`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "parameters_schema")]
    pub options: BTreeMap<String, Value>,
}

/// What became of a catalogue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelCatalogStatus {
    /// The `metadata.generation` this status is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: all of it has effect.
    #[serde(default)]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// How many entries it has.
    #[serde(default)]
    pub entries: i64,
    /// How many entries and defaults have no effect.
    #[serde(default)]
    pub conflict_count: i64,
    /// What has no effect, and why; 50 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
}

impl ModelCatalog {
    /// Of several catalogues in a namespace that say the same thing, the first in this order counts.
    pub fn seniority(&self) -> impl Ord + use<> {
        (self.creation_timestamp(), self.name_any())
    }

    /// What it says.
    pub fn layer(&self) -> Layer<Value> {
        let entries = self.spec.entries.iter().map(|entry| (entry.entry.clone(), entry.options.clone()));
        Layer { entries: entries.collect(), defaults: self.spec.defaults.clone() }
    }
}

impl HasConditions for ModelCatalog {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}
