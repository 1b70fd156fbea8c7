//! The one immutable table that every request is resolved with.
//!
//! Compiled by pure code from the watched objects ([`compile`]), swapped whole, kept on disk so that a gateway can
//! start while the Kubernetes API is away. A request loads one table and keeps it to its end.

pub mod compile;
pub mod directory;
pub mod feed;
mod freshness;
pub mod lease;
mod providers;
pub mod room;
pub mod runners;
mod store;

pub use freshness::Freshness;
pub use store::{load, save};

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::{
    caller::Limits,
    digest::Digest,
    directory::{Directory, Place},
    node::NodeModel,
    provider::Offer,
    run_record::SystemPrompt,
};

/// The table as the gateway holds it: loaded by each request, replaced as a whole by the feed.
pub type SharedTable = Arc<ArcSwap<RoutingTable>>;

/// Everything a request needs to find its node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoutingTable {
    /// By namespace.
    pub namespaces: BTreeMap<String, Namespace>,
    /// What people should know about it, a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What one namespace offers. References never leave it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Namespace {
    /// Deployments by name.
    pub deployments: BTreeMap<String, Deployment>,
    /// Ready nodes by name: in maintenance or away ones are not here.
    pub nodes: BTreeMap<String, Arc<Node>>,
    /// The other nodes by name, and why they take no requests.
    #[serde(default)]
    pub away: BTreeMap<String, String>,
    /// Plain tags by their full name (`registry.ollama.ai/library/llama3.2:3b`, lower case).
    pub tags: BTreeMap<String, Target>,
    /// Providers by name.
    #[serde(default)]
    pub providers: BTreeMap<String, Provider>,
    /// Callers' keys by their hashes.
    #[serde(default)]
    pub keys: BTreeMap<Digest, Arc<Key>>,
    /// What other names stand for: profiles, chains, workers, `auto:TAG`.
    #[serde(default)]
    pub directory: Directory<Value>,
}

/// A provider as requests see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provider {
    /// What stands for it where nodes stand.
    pub node: Arc<Node>,
    /// The models that can be asked for, by their names there.
    pub models: BTreeMap<String, Target>,
    /// Why it can't be used.
    #[serde(default)]
    pub fault: Option<String>,
}

/// A caller's key as requests see it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// The object's name.
    pub name: String,
    /// The patterns of models that it may be used for; `None`: all.
    pub models: Option<Vec<String>>,
    /// What this gateway lets through of its limits.
    pub limits: Limits,
    /// How many gateways share them.
    pub gateways: u32,
    /// Until when it can be used.
    pub expires_at: Option<Timestamp>,
    /// Whether it can't be used for now.
    pub disabled: bool,
    /// Whether models may be pulled and deleted with it.
    pub allow_model_operations: bool,
}

/// A node as requests see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Namespace and name, unique over the table.
    pub id: String,
    /// The object's name.
    pub name: String,
    /// Base URL.
    pub url: String,
    /// Share relative to other nodes.
    pub weight: u32,
    /// Requests at once.
    pub max_concurrent_requests: u32,
    /// `keep_alive` for every request, as Ollama writes it.
    pub keep_alive: Option<String>,
    /// Default context window.
    pub context_length: Option<u32>,
    /// Largest context window.
    pub max_context_length: Option<u32>,
}

/// A deployment as requests see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// The rollout revision that this table carries.
    pub revision: i64,
    /// Since when this gateway serves that revision.
    pub since: Timestamp,
    /// The rollout's id, part of the key that keeps sessions on one side.
    pub rollout_id: String,
    /// What most requests get.
    pub stable: Target,
    /// What the rest gets.
    pub canary: Option<Canary>,
    /// The request header that names a session.
    pub sticky_header: Option<String>,
    /// Whether answers are checked by the JSON schemas of their requests.
    #[serde(default)]
    pub schema_check: bool,
}

/// The version on trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// Percent of requests.
    pub weight: u8,
    /// The copies of requests that it gets before it gets requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
    /// The version.
    pub target: Target,
}

/// Copies of the requests that stable answers, for a canary.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shadow {
    /// Percent of requests.
    pub share: u8,
    /// How many US dollars they may cost at this gateway.
    pub budget: f64,
}

/// Something that nodes can run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// The tag that people know it by.
    pub tag: String,
    /// The version; `None` for a plain tag.
    pub version: Option<String>,
    /// The digest, the same on each holder.
    pub digest: String,
    /// The name it is called by on the nodes.
    pub model: String,
    /// The version's parameters.
    pub parameters: BTreeMap<String, Value>,
    /// What the catalogue has it called with where nobody says another value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub defaults: BTreeMap<String, Value>,
    /// The version's system prompt.
    pub system_prompt: Option<String>,
    /// What a node says about it; `None` where no node lists the digest under a name of its own.
    #[serde(default)]
    pub details: Option<Arc<NodeModel>>,
    /// Which one that is.
    #[serde(default)]
    pub prompt_edition: Option<SystemPrompt>,
    /// The provider's model that it is; `None` for what nodes run.
    #[serde(default)]
    pub offer: Option<Arc<Offer>>,
    /// Ready nodes that hold it.
    pub holders: Vec<Holder>,
    /// Ready nodes that hold it, or hold something else by its name, and get no request for it all the same: by name, why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub passed_over: BTreeMap<String, String>,
}

/// A node that holds a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Holder {
    /// The node.
    pub node: Arc<Node>,
    /// Whether it has the model in memory.
    pub loaded: bool,
    /// The digest there.
    pub digest: String,
}

impl Target {
    /// The longest context that it was made for, in tokens.
    pub fn context_length(&self) -> Option<u64> {
        self.details.as_ref()?.context_length?.try_into().ok().filter(|length| *length > 0)
    }

    /// Whether any node takes requests for it.
    pub fn is_usable(&self) -> bool {
        self.holders.iter().any(|holder| holder.node.weight > 0 && holder.node.max_concurrent_requests > 0)
    }
}

impl Namespace {
    /// Whatever requests can be sent to: nodes, and what stands for providers.
    pub fn servers(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values().chain(self.providers.values().map(|provider| &provider.node))
    }

    /// What requests for a model of the directory go to; of a deployment, its stable version.
    pub fn target(&self, place: &Place) -> Option<&Target> {
        match place {
            Place::Deployment(name) => self.deployments.get(name).map(|deployment| &deployment.stable),
            Place::Tag(full) => self.tags.get(full),
            Place::Offer { provider, model } => self.providers.get(provider)?.models.get(model),
        }
    }

    /// Whatever requests can be sent for: both sides of each deployment, plain tags, models of providers.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        let sides = self.deployments.values().flat_map(|deployment| {
            [&deployment.stable].into_iter().chain(deployment.canary.iter().map(|canary| &canary.target))
        });
        let offered = self.providers.values().flat_map(|provider| provider.models.values());
        sides.chain(self.tags.values()).chain(offered)
    }
}

impl RoutingTable {
    /// What a namespace offers; one that the table doesn't know offers nothing.
    pub fn namespace(&self, name: &str) -> &Namespace {
        static NOTHING: Namespace = Namespace {
            deployments: BTreeMap::new(),
            nodes: BTreeMap::new(),
            away: BTreeMap::new(),
            tags: BTreeMap::new(),
            providers: BTreeMap::new(),
            keys: BTreeMap::new(),
            directory: Directory::empty(),
        };
        self.namespaces.get(name).unwrap_or(&NOTHING)
    }

    /// The same table with every canary's share given to stable: what a gateway serves that doesn't know whether
    /// the canary was taken back since.
    pub fn without_canaries(mut self) -> Self {
        for deployment in self.namespaces.values_mut().flat_map(|namespace| namespace.deployments.values_mut()) {
            deployment.canary = None;
        }
        self
    }

    /// Takes over from `earlier` since when each unchanged revision has been served.
    pub fn keep_times(mut self, earlier: &Self) -> Self {
        for (name, namespace) in &mut self.namespaces {
            let Some(before) = earlier.namespaces.get(name) else { continue };
            for (name, deployment) in &mut namespace.deployments {
                if let Some(before) = before.deployments.get(name).filter(|b| b.revision == deployment.revision) {
                    deployment.since = before.since;
                }
            }
        }
        self
    }
}
