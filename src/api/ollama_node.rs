use std::collections::HashSet;

use kube::{CustomResource, KubeSchema, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HasConditions, conditions_schema};
use crate::domain::{
    conditions::{Condition, ConditionStatus, READY},
    duration::HumanDuration,
    labels::NodeSelector,
    model_name::ModelName,
    node::NodeModel,
    size::ByteSize,
    url,
};

/// One Ollama server that Drover may pull models to and send requests to.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "drover.dev",
    version = "v1alpha1",
    kind = "OllamaNode",
    namespaced,
    status = "OllamaNodeStatus",
    derive = "PartialEq",
    shortname = "onode",
    category = "drover",
    doc = "One Ollama server that Drover may pull models to and send requests to.",
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.url"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Models", type_ = "integer", json_path = ".status.modelCount"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Loaded", type_ = "string", json_path = ".status.loaded", priority = "1"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name must have at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.contextLength) || !has(self.maxContextLength) || self.contextLength <= self.maxContextLength", "contextLength must not exceed maxContextLength"))]
pub struct OllamaNodeSpec {
    /// Where the server listens: `http://` or `https://`, host, port. Credentials don't belong in a URL.
    #[schemars(regex(pattern = url::HTTP_URL), length(max = 253))]
    #[x_kube(validation = ("!self.contains('@')", "must not hold credentials"))]
    pub url: String,
    /// This node's share of requests relative to other nodes; 0 sends it none.
    #[serde(default = "default_weight")]
    #[schemars(range(min = 0, max = 1000))]
    pub weight: u32,
    /// How many requests it is given at once; as many as its `OLLAMA_NUM_PARALLEL`.
    #[serde(default = "default_concurrency")]
    #[schemars(range(min = 1, max = 1024))]
    pub max_concurrent_requests: u32,
    /// How long a model stays in memory after a request. Unset: the server's own setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<HumanDuration>,
    /// Context window in tokens with which models are run here unless a version says otherwise. Unset: the server's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16777216))]
    pub context_length: Option<u32>,
    /// The largest context window that a request or version may ask for on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16777216))]
    pub max_context_length: Option<u32>,
    /// The memory that models have here, a GPU's mostly, such as `24GiB`. With it, two versions that don't fit together
    /// are kept on nodes of their own. Unset: not known, and any two are taken to fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// The mirror that this node pulls through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<NodeMirror>,
    /// True drains the node: no new requests and no new pulls.
    #[serde(default)]
    pub maintenance: bool,
}

/// The mirror as this node reaches it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeMirror {
    /// The mirror's address as seen from the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = url::HTTP_URL), length(max = 253))]
    pub url: Option<String>,
    /// True: this node pulls from registries directly.
    #[serde(default)]
    pub disabled: bool,
}

/// What was seen of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OllamaNodeStatus {
    /// The `metadata.generation` this status is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the node answers and takes requests.
    #[serde(default)]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// Ollama's version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// True while the node is away: what follows is what was last seen.
    #[serde(default)]
    pub stale: bool,
    /// How many models the node holds.
    #[serde(default)]
    pub model_count: i64,
    /// The models on the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<NodeModel>,
    /// Names of the models in memory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loaded: Vec<String>,
    /// Names of models that Drover put on this node, or is about to; the others were there before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pulled: Vec<String>,
    /// The aliases by which this node holds model versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<NodeVersion>,
}

/// A model version on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeVersion {
    /// The alias, as `ModelVersion.status.alias` has it.
    pub alias: String,
    /// The digest that the node reports for it.
    pub digest: String,
    /// Whether it is in memory.
    #[serde(default)]
    pub loaded: bool,
    /// The bytes that it takes in memory, as last seen there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<i64>,
}

impl HasConditions for OllamaNode {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}

impl OllamaNode {
    /// Whether it may be given requests and pulls; if not, why.
    ///
    /// # Errors
    /// The reason, for people.
    pub fn usable(&self) -> Result<(), &str> {
        if self.metadata.deletion_timestamp.is_some() {
            return Err("it is being deleted");
        }
        if self.spec.maintenance {
            return Err("it is in maintenance");
        }
        match self.conditions().iter().find(|condition| condition.type_ == READY) {
            Some(ready) if ready.status == ConditionStatus::True => Ok(()),
            Some(ready) => Err(&ready.message),
            None => Err("it was not looked at yet"),
        }
    }

    /// Whether Drover put this model there, or is about to.
    pub fn is_pulled(&self, name: &str) -> bool {
        self.status.as_ref().is_some_and(|status| status.pulled.iter().any(|pulled| ModelName::same(pulled, name)))
    }

    /// The digests of what is in memory, under whichever name: Ollama runs a model once for all its names.
    pub fn loaded_digests(&self) -> HashSet<&str> {
        let status = self.status.iter();
        status
            .flat_map(|status| {
                let models = status.models.iter().filter(|model| status.loaded.contains(&model.name));
                let versions = status.versions.iter().filter(|version| version.loaded);
                models.map(|model| &*model.digest).chain(versions.map(|version| &*version.digest))
            })
            .collect()
    }

    /// The version it holds under `alias`, if its digest is the one expected.
    pub fn holds(&self, alias: &str, digest: &str) -> Option<&NodeVersion> {
        self.status.as_ref()?.versions.iter().find(|held| held.alias == alias && held.digest == digest)
    }

    /// The bytes that the version under `alias` takes in memory: as last seen, else at least what it has on disk, else 0.
    /// `None`: it isn't there.
    pub fn takes(&self, alias: &str, digest: &str) -> Option<u64> {
        let seen = self.holds(alias, digest)?.memory_bytes;
        let mut models = self.status.iter().flat_map(|status| &status.models);
        let on_disk = || models.find(|model| model.digest == digest).map(|model| model.size_bytes);
        Some(seen.or_else(on_disk).and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0))
    }

    /// The version it holds under `alias`, if it may be given requests for it: it is usable, picked by the placement's
    /// selector and holds the alias with the digest expected.
    pub fn serves(&self, selector: &NodeSelector, alias: &str, digest: &str) -> Option<&NodeVersion> {
        let may = self.usable().is_ok() && selector.matches(self.labels());
        self.holds(alias, digest).filter(|_| may)
    }

    /// The model it holds under `name`, whichever way that is spelled.
    pub fn model(&self, name: &str) -> Option<&NodeModel> {
        self.status.as_ref()?.models.iter().find(|model| ModelName::same(&model.name, name))
    }
}

fn default_weight() -> u32 {
    100
}

fn default_concurrency() -> u32 {
    1
}
