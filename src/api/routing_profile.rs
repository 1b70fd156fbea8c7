use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{HasConditions, conditions_schema, parameters_schema};
use crate::domain::{conditions::Condition, directory::Needs};

/// What a task needs of a model: the best one that is there answers.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "drover.dev",
    version = "v1alpha1",
    kind = "RoutingProfile",
    namespaced,
    status = "RoutingProfileStatus",
    derive = "PartialEq",
    shortname = "rprof",
    category = "drover",
    doc = "What a task needs of a model: the best one that is there answers.",
    printcolumn(name = "Model", type_ = "string", json_path = ".status.chosen"),
    printcolumn(name = "Objective", type_ = "string", json_path = ".spec.objective"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 128").message("metadata.name must have at most 128 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct RoutingProfileSpec {
    /// What is needed, and what decides between models that suit.
    #[serde(flatten)]
    pub needs: Needs,
    /// What the models are called with, in Ollama's words, unless the request says another value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "parameters_schema")]
    pub parameters: BTreeMap<String, Value>,
}

/// What a profile comes to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoutingProfileStatus {
    /// The `metadata.generation` this status is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: a model suits. `NameClash`: an older object of another kind has its bare name.
    #[serde(default)]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The model that answers now. With the objective `latency` each gateway goes by what it measured itself: what most of them
    /// chose; that others chose otherwise is in the message of `Ready`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub chosen: String,
    /// Why that one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The models that suit, the best first; 50 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eligible: Vec<String>,
    /// How many models don't suit.
    #[serde(default)]
    pub rejected_count: i64,
    /// The models that don't suit, and what they lack; 50 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<RejectedModel>,
}

/// A model that doesn't suit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RejectedModel {
    /// The model.
    pub model: String,
    /// What it lacks.
    pub why: String,
}

impl HasConditions for RoutingProfile {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}
