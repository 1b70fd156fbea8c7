use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{HasConditions, conditions_schema, parameters_schema};
use crate::domain::{
    conditions::Condition,
    directory::{ChainSpec, Failure, StepSpec},
    duration::HumanDuration,
    model_db::Capability,
};

/// What is asked one after the other until an answer is good.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "drover.dev",
    version = "v1alpha1",
    kind = "FallbackChain",
    namespaced,
    status = "FallbackChainStatus",
    derive = "PartialEq",
    shortname = "fchain",
    category = "drover",
    doc = "What is asked one after the other until an answer is good.",
    printcolumn(name = "Valid", type_ = "string", json_path = r#".status.conditions[?(@.type=="Valid")].status"#),
    printcolumn(name = "Steps", type_ = "integer", json_path = ".status.stepCount"),
    printcolumn(name = "Available", type_ = "integer", json_path = ".status.availableSteps"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 128").message("metadata.name must have at most 128 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct FallbackChainSpec {
    /// The steps, in their order.
    #[schemars(length(min = 1, max = 16))]
    pub steps: Vec<ChainStep>,
    /// How long all of it may take until an answer begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<HumanDuration>,
    /// How many attempts it may make, over all steps. Unset: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub max_attempts: Option<u32>,
    /// What every step must be able to do. Whatever it says, a chain that begins with vision keeps it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub capabilities: Vec<Capability>,
}

/// A step of a chain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChainStep {
    /// What is asked: exactly one of its fields is set.
    pub target: ChainTarget,
    /// The failures that lead to the next step; any other one ends the chain. None: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 6))]
    pub on: Vec<Failure>,
    /// How long one attempt may take until its answer begins; with a schema, until it is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HumanDuration>,
    /// How many more nodes are asked when one fails. Unset: all that hold the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 16))]
    pub retries: Option<u32>,
    /// What the model is called with, in Ollama's words, unless the request says another value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "parameters_schema")]
    pub parameters: BTreeMap<String, Value>,
    /// Whether these parameters count more than the request's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// The JSON schema that the answer must keep to, whatever the request says. Answers are then sent when they are whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "parameters_schema")]
    pub schema: Option<Value>,
}

/// What a step asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = ("[has(self.model), has(self.deployment), has(self.profile), has(self.chain), has(self.worker), has(self.provider)].filter(set, set).size() == 1", "name exactly one of model, deployment, profile, chain, worker and provider"))]
#[serde(rename_all = "camelCase")]
pub struct ChainTarget {
    /// A model as nodes name it, or any reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub model: Option<String>,
    /// A ModelDeployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub deployment: Option<String>,
    /// A RoutingProfile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub profile: Option<String>,
    /// Another FallbackChain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub chain: Option<String>,
    /// A Worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub worker: Option<String>,
    /// A provider's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderTarget>,
}

/// A provider's model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderTarget {
    /// The Provider.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The model by its name there.
    #[schemars(length(min = 1, max = 253))]
    pub model: String,
}

/// What a chain comes to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FallbackChainStatus {
    /// The `metadata.generation` this status is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Valid`: it is served. `Ready`: a step of it can be called. `NameClash`: an older object of another kind has its bare
    /// name.
    #[serde(default)]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// How many steps it has, those of chains within it among them.
    #[serde(default)]
    pub step_count: i64,
    /// How many of them can be called.
    #[serde(default)]
    pub available_steps: i64,
    /// The steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepStatus>,
}

/// What a step comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepStatus {
    /// What is asked.
    pub target: String,
    /// The model that this comes to now.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Whether it can be called.
    pub available: bool,
    /// Why, or why not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl ChainTarget {
    /// How many targets it names: one, unless it is wrong.
    pub fn named(&self) -> usize {
        let Self { model, deployment, profile, chain, worker, provider } = self;
        let named = [model, deployment, profile, chain, worker].into_iter().filter(|name| name.is_some()).count();
        named + usize::from(provider.is_some())
    }

    /// As a reference; empty where nothing is named.
    pub fn reference(&self) -> String {
        let Self { model, deployment, profile, chain, worker, provider } = self;
        let named = [("deployment", deployment), ("profile", profile), ("chain", chain), ("worker", worker)];
        let named = named.into_iter().find_map(|(kind, name)| Some(format!("{kind}/{}", name.as_ref()?)));
        let offered = || provider.as_ref().map(|of| format!("provider/{}/{}", of.name, of.model));
        model.clone().or(named).or_else(offered).unwrap_or_default()
    }
}

impl FallbackChainSpec {
    /// As decisions see it.
    pub fn declared(&self) -> ChainSpec<Value> {
        let steps = self.steps.iter().map(|step| StepSpec {
            target: step.target.reference(),
            on: step.on.clone(),
            timeout: step.timeout.map(|timeout| timeout.0),
            retries: step.retries,
            parameters: step.parameters.clone(),
            force: step.force,
            schema: step.schema.clone(),
        });
        ChainSpec {
            steps: steps.collect(),
            deadline: self.deadline.map(|deadline| deadline.0),
            max_attempts: self.max_attempts,
            floor: self.capabilities.iter().copied().collect(),
            fault: None,
        }
    }
}

impl HasConditions for FallbackChain {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}
