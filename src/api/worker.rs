use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ANNOTATION_MODEL, ANNOTATION_POLICY, HasConditions, conditions_schema, parameters_schema};
use crate::domain::{
    conditions::Condition,
    directory::{self, Policy},
    model_db::Capability,
};

/// Somebody who asks for models by a name of its own, behind which the model can change.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "drover.dev",
    version = "v1alpha1",
    kind = "Worker",
    namespaced,
    status = "WorkerStatus",
    derive = "PartialEq",
    shortname = "wrk",
    category = "drover",
    doc = "Somebody who asks for models by a name of its own, behind which the model can change.",
    printcolumn(name = "Model", type_ = "string", json_path = ".status.resolvedModel"),
    printcolumn(name = "Default", type_ = "string", json_path = ".spec.model"),
    printcolumn(name = "Override", type_ = "string", json_path = ".status.override"),
    printcolumn(name = "Policy", type_ = "string", json_path = ".status.policy"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 128").message("metadata.name must have at most 128 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct WorkerSpec {
    /// The model that it asks for: `auto:fast`, `profile/NAME`, `deployment/NAME`, `chain/NAME`, `provider/NAME/MODEL`, or a
    /// model as nodes name it.
    #[schemars(length(min = 1, max = 253))]
    pub model: String,
    /// When the model may change.
    #[serde(default)]
    pub policy: Policy,
    /// What the model must be able to do, whichever it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub capabilities: Vec<Capability>,
    /// What the model is called with, in Ollama's words, unless the request says another value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "parameters_schema")]
    pub parameters: BTreeMap<String, Value>,
}

/// What a worker comes to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// The `metadata.generation` this status is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: a model answers for it. `NameClash`: an older object of another kind has its bare name.
    #[serde(default)]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The model that answers, or the chain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resolved_model: String,
    /// Why that one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When it may change.
    #[serde(default)]
    pub policy: Policy,
    /// Tells this model with these parameters and this policy from all others; sessions that began with another one began
    /// elsewhere.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    /// The model that the spec asks for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub default: String,
    /// The model that somebody set instead, with `drover workers set-model`.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "override")]
    pub set: Option<String>,
}

impl Worker {
    /// As decisions see it.
    pub fn declared(&self) -> directory::WorkerSpec<Value> {
        let spec = &self.spec;
        let said = |key: &str| self.annotations().get(key).filter(|text| !text.is_empty());
        let set = said(ANNOTATION_MODEL).cloned();
        let policy = match said(ANNOTATION_POLICY).map(String::as_str) {
            Some("Static") => Policy::Static,
            Some("Dynamic") => Policy::Dynamic,
            _ => spec.policy,
        };
        let resolved = self.status.as_ref().filter(|status| {
            let is_same = status.observed_generation == self.metadata.generation;
            is_same && status.set == set && status.policy == Policy::Static && !status.resolved_model.is_empty()
        });
        directory::WorkerSpec {
            model: spec.model.clone(),
            policy,
            floor: spec.capabilities.iter().copied().collect(),
            parameters: spec.parameters.clone(),
            pinned: resolved.map(|status| status.resolved_model.clone()),
            set,
        }
    }
}

impl HasConditions for Worker {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}
