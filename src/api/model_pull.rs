use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ANNOTATION_REFRESH, HasConditions, conditions_schema};
use crate::domain::{
    conditions::Condition,
    duration::HumanDuration,
    labels::NodeSelector,
    model_name,
    pull::{NodePhase, Phase},
};

/// What a digest looks like.
pub const DIGEST_PATTERN: &str = "^sha256:[0-9a-f]{64}$";

/// Finalizer: on every ModelPull whose model goes with it.
pub const PULL_FINALIZER: &str = "drover.dev/pull";

/// A model that nodes must hold.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "drover.dev",
    version = "v1alpha1",
    kind = "ModelPull",
    namespaced,
    status = "ModelPullStatus",
    derive = "PartialEq",
    shortname = "mpull",
    category = "drover",
    doc = "A model that nodes must hold.",
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Progress", type_ = "integer", json_path = ".status.progress"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.readyNodes"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredNodes"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.resolved.id"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority", priority = "1"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name must have at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct ModelPullSpec {
    /// The model as `ollama pull` takes it: `llama3.2:3b`, `namespace/model:tag` or `host/namespace/model:tag`.
    #[schemars(regex(pattern = model_name::PATTERN), length(max = 253))]
    #[x_kube(validation = (model_name::RULE, model_name::FORM))]
    pub model: String,
    /// The nodes that must hold it; without one, every node of the namespace.
    #[serde(default)]
    pub node_selector: NodeSelector,
    /// Without being Ready for this long, the condition says so; trying goes on.
    #[serde(default = "default_timeout")]
    pub timeout: HumanDuration,
    /// How failed attempts are repeated.
    #[serde(default)]
    pub retry: Retry,
    /// What happens when the tag moves.
    #[serde(default)]
    pub update_policy: UpdatePolicy,
    /// With `updatePolicy: Always`: how often the tag is looked up.
    #[serde(default = "default_check_interval")]
    #[x_kube(validation = ("duration(self) >= duration('10s')", "must be at least 10s"))]
    pub check_interval: HumanDuration,
    /// What becomes of the model on the nodes when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// On how many nodes this pull may run at once; unset: on all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub parallelism: Option<u32>,
    /// Where pulls wait for each other, the highest goes first, then the one that waits longest.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,
    /// The Secret with the login at the model's registry; needs a mirror, because nodes can't log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret: Option<PullSecret>,
    /// The digest that nodes must hold, as nodes or the registry report it. With a mirror, a node that holds another
    /// one pulls this; without, that is a fault, not something to overwrite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DIGEST_PATTERN))]
    pub digest: Option<String>,
    /// True for a registry that speaks plain http.
    #[serde(default)]
    pub insecure: bool,
    /// Whether the fleet counts as healthy only with this model.
    #[serde(default)]
    pub required: bool,
    /// True stops attempts; bytes already on a node stay there and are used when it goes on.
    #[serde(default)]
    pub suspend: bool,
}

/// How failed attempts are repeated: after `initialDelay`, then twice as long each time up to `maxDelay`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// The wait after the first failure.
    #[serde(default = "default_initial_delay")]
    pub initial_delay: HumanDuration,
    /// The longest wait.
    #[serde(default = "default_max_delay")]
    pub max_delay: HumanDuration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { initial_delay: default_initial_delay(), max_delay: default_max_delay() }
    }
}

/// What happens when the tag moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdatePolicy {
    /// Nothing: having the tag is enough.
    #[default]
    IfNotPresent,
    /// Nodes pull what it stands for now. Until then they serve what they have.
    Always,
}

/// What becomes of the model on the nodes when the object is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays.
    #[default]
    Retain,
    /// It is deleted where Drover put it, unless another object wants it there.
    Delete,
}

/// A Secret of type `kubernetes.io/dockerconfigjson` in the object's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PullSecret {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Where a pull stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelPullStatus {
    /// The `metadata.generation` this status is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: every node that must has the model.
    #[serde(default)]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// Where it stands as a whole.
    #[serde(default)]
    pub phase: Phase,
    /// Percent of the bytes over all nodes; missing while the size is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<i64>,
    /// How many nodes must hold the model.
    #[serde(default)]
    pub desired_nodes: i64,
    /// How many do.
    #[serde(default)]
    pub ready_nodes: i64,
    /// What the tag stands for on the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,
    /// The last request to look the tag up again that was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Refresh>,
    /// Each node, the worst first, at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub nodes: Vec<NodePull>,
}

/// What a tag stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// The tag.
    pub tag: String,
    /// The digest as nodes report it.
    pub digest: String,
    /// Its first digits, as `ollama ls` shows them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The registry's digest, where it is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub upstream_digest: String,
    /// Bytes on a node's disk.
    pub size_bytes: i64,
}

/// A request to look up again what a tag stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refresh {
    /// The value of the annotation `drover.dev/refresh`.
    pub id: String,
    /// True until every node holds what was found.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
    /// Why the tag could not be looked up.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// One node's part of a pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePull {
    /// The node's name.
    pub node: String,
    /// Where it stands there.
    pub phase: NodePhase,
    /// Bytes on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_bytes: Option<i64>,
    /// Bytes of the layers that are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<i64>,
    /// Percent of the known bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<i64>,
    /// Bytes a second over the last seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<i64>,
    /// Seconds to go at that rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_seconds: Option<i64>,
    /// The digest as the node reports it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// True where the model was before Drover: it stays there, whatever the deletion policy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// What is wrong, as a word for programs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What it is doing, or what is wrong and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl ModelPull {
    /// The request to look the tag up again that was made last.
    pub fn refresh_asked(&self) -> Option<&str> {
        let id = self.metadata.annotations.as_ref()?.get(ANNOTATION_REFRESH)?;
        (!id.is_empty()).then_some(id)
    }

    /// The same until all that it asks for is done.
    pub fn refresh_wanted(&self) -> Option<&str> {
        let answered = self.status.as_ref().and_then(|status| status.refresh.as_ref());
        self.refresh_asked().filter(|id| answered.is_none_or(|answered| answered.id != *id || answered.pending))
    }
}

impl HasConditions for ModelPull {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}

fn default_timeout() -> HumanDuration {
    HumanDuration::from_secs(300)
}

fn default_check_interval() -> HumanDuration {
    HumanDuration::from_secs(3600)
}

fn default_initial_delay() -> HumanDuration {
    HumanDuration::from_secs(5)
}

fn default_max_delay() -> HumanDuration {
    HumanDuration::from_secs(300)
}
