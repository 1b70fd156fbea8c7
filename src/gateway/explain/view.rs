//! What is told of a request's way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::run_record::{Effective, Resolved, SystemPrompt};

/// The way of one request, as it would be taken now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The path that the request would be sent to.
    pub path: String,
    /// The namespace that its names are looked up in.
    pub namespace: String,
    /// The model as the caller names it.
    pub requested: String,
    /// What that name stands for.
    pub found: Named,
    /// How that comes to the models that are tried: references, profiles with every candidate, steps of chains, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub walk: Vec<String>,
    /// By what the request's session is known: a header's name, `user`, or `prompt` for how the prompt begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The versions of a deployment and their shares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<Share>,
    /// What would answer; without a node while it would have to wait for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,
    /// Whether every node that could answer is full at the moment.
    pub waits: bool,
    /// Every option that would take effect, and who set it.
    pub parameters: BTreeMap<String, Effective<Value>>,
    /// Options that were asked for, but that the provider has nothing like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped_parameters: Vec<String>,
    /// How long the model would stay in memory afterwards; nothing leaves it to the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<Effective<Value>>,
    /// The context window, and whether the prompt fits in.
    pub context: Context,
    /// The version's system prompt, if the model would get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<SystemPrompt>,
    /// Whether the answer would be checked by the schema of the request.
    pub schema_check: bool,
    /// What would be tried, in this order: the next one when every node of the one before failed.
    pub steps: Vec<Step>,
}

/// An object or a model by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Which kind of name.
    pub kind: String,
    /// The name.
    pub name: String,
}

/// One side of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// `stable` or `canary`.
    pub side: String,
    /// Its version.
    pub version: String,
    /// Percent of requests.
    pub weight: u8,
}

/// The context window of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// Tokens; nothing leaves it to the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_ctx: Option<Effective<u64>>,
    /// Bytes of text that the model would read, without its own template.
    pub prompt_bytes: u64,
    /// About how many tokens they are: nobody but the model knows for sure.
    pub estimated_prompt_tokens: u64,
    /// Whether these are more than the window has; unknown where the window is the node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_prompt_longer: Option<bool>,
    /// What becomes of a prompt that is longer: `cut` or `refused`.
    pub when_longer: String,
}

/// A model or version that would be tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The tag.
    pub model: String,
    /// The version, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The digest.
    pub digest: String,
    /// Why this one.
    pub reason: String,
    /// How many requests wait for a place on its nodes.
    pub waiting: usize,
    /// Every node of the namespace.
    pub nodes: Vec<NodeView>,
}

/// A node and its chances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// Its name.
    pub node: String,
    /// Whether it answers.
    pub state: NodeState,
    /// Why, or why not.
    pub why: String,
    /// What decides among the nodes that hold the model; nothing of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
}

/// What a node has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// Whether the model is in memory there.
    pub loaded: bool,
    /// Requests of this gateway under way there.
    pub in_flight: u32,
    /// How many it takes at once.
    pub limit: u32,
    /// Its share relative to other nodes.
    pub weight: u32,
    /// The widest context window that the model was called with there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
}

/// Whether a node answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// It would be asked next.
    Chosen,
    /// It could answer, another one is better placed.
    Eligible,
    /// It has no room.
    Full,
    /// Its last answers failed: others go first.
    Aside,
    /// It takes no such request.
    Unfit,
    /// It does not hold the model.
    Lacking,
    /// It is not ready, or in maintenance.
    Away,
}
