//! The seams between decisions and the world: what the rest of the code asks of a node or a gateway.

mod audit;
mod operations;
mod providers;
mod records;

pub use audit::{AuditFilter, AuditLog, AuditRecord};
pub use operations::{ModelOperations, OperationError, Pulling};
pub use providers::{ProviderApi, ProviderKey, ProviderKeys, ProviderListing};
pub use records::{Noted, Page, Records, RecordsError, RunRecord};

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::{
    analysis::Observed,
    node::{Probe, ProbeFault},
    provider::Offer,
    pull::{Fault, Line},
};

/// Why a call to a node failed. No variant ever holds a prompt or an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// No connection could be made.
    #[error("no connection: {0}")]
    Connect(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The connection broke while the answer was on its way.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The node answered with an error.
    #[error("HTTP {status}: {message}")]
    Status {
        /// HTTP status.
        status: u16,
        /// Ollama's own words.
        message: String,
    },
    /// A provider has too much to do for now.
    #[error("HTTP {status}: {message}")]
    Throttled {
        /// HTTP status.
        status: u16,
        /// Its words.
        message: String,
        /// Seconds after which it wants to be asked again.
        retry_after: u32,
    },
}

impl NodeError {
    /// Whether another node, or the same one later, may do better.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(_) | Self::TimedOut(_) | Self::Broken(_) | Self::Throttled { .. } => true,
            // 404: this node lost the model. 408, 429, 503: it has too much to do.
            // 501: it can't be done with this model.
            Self::Status { status, .. } => (*status >= 500 && *status != 501) || matches!(status, 404 | 408 | 429),
        }
    }
}

/// What `/api/show` adds to a model's entry in the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelDetails {
    /// What the model can do.
    pub capabilities: Vec<String>,
    /// The longest context it was trained for, in tokens.
    pub context_length: Option<i64>,
}

/// How the controller looks after one node.
pub trait NodeApi: Send + Sync {
    /// Version, models and loaded models.
    fn probe<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Probe, ProbeFault>>;

    /// What one model can do.
    fn details<'a>(&'a self, url: &'a str, model: &'a str) -> BoxFuture<'a, Result<ModelDetails, NodeError>>;

    /// Pulls a model; dropping the stream breaks the pull off, and the node keeps the parts.
    fn pull(&self, url: &str, model: &str, insecure: bool) -> BoxStream<'static, Result<Line, NodeError>>;

    /// Gives a model a second name; no bytes are copied.
    fn copy<'a>(&'a self, url: &'a str, from: &'a str, to: &'a str) -> BoxFuture<'a, Result<(), NodeError>>;

    /// Has the node load a model.
    fn load<'a>(&'a self, url: &'a str, model: &'a str, how: Load) -> BoxFuture<'a, Result<(), NodeError>>;

    /// Takes a name away; bytes that another name uses stay.
    fn delete<'a>(&'a self, url: &'a str, name: &'a str) -> BoxFuture<'a, Result<(), NodeError>>;
}

/// How a node is to load a model.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// The model makes embeddings and nothing else.
    pub embeds: bool,
    /// Options of its runner.
    pub options: BTreeMap<String, Value>,
    /// For how long; unset: the node's own time.
    pub keep_alive: Option<String>,
}

/// A request to a node on behalf of a caller.
#[derive(Clone, Debug)]
pub struct NodeRequest {
    /// The node's base URL.
    pub url: String,
    /// Path of Ollama's own API, for example `/api/chat`.
    pub path: &'static str,
    /// JSON body, which is posted; without one it is asked for what is there.
    pub body: Option<Bytes>,
    /// How long the node may take until the head of its answer.
    pub head_within: Duration,
    /// The trace that it belongs to.
    pub trace: TraceHeaders,
    /// The provider's model that is to answer; `None`: an Ollama server at `url` does.
    pub offer: Option<Arc<Offer>>,
}

/// Which trace a request belongs to, as W3C's Trace Context has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceHeaders {
    /// `traceparent`.
    pub parent: Option<Bytes>,
    /// `tracestate`.
    pub state: Option<Bytes>,
}

impl TraceHeaders {
    /// The headers that are there, by name.
    pub fn entries(self) -> impl Iterator<Item = (&'static str, Bytes)> {
        [("traceparent", self.parent), ("tracestate", self.state)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// The head of a node's answer, and its body as it comes.
pub struct NodeResponse {
    /// HTTP status.
    pub status: u16,
    /// Whether it says that it comes as one JSON value and not as lines.
    pub is_json: bool,
    /// Body; dropping it ends the request on the node.
    pub body: BoxStream<'static, Result<Bytes, NodeError>>,
}

/// How the gateway sends a request to a node.
pub trait Inference: Send + Sync {
    /// Sends it; any HTTP status is an answer, not an error.
    fn send(&self, request: NodeRequest) -> BoxFuture<'_, Result<NodeResponse, NodeError>>;
}

/// What a gateway tells about itself at `GET /drover/v1/stats`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStats {
    /// Names this process: another one, or the same gateway after a restart, counts from zero.
    #[serde(default)]
    pub instance: String,
    /// The namespace whose callers it answers.
    pub namespace: String,
    /// Every deployment it serves.
    pub deployments: Vec<DeploymentStats>,
    /// The callers' keys that were used since it started.
    #[serde(default)]
    pub keys: Vec<KeyStats>,
}

/// What a gateway knows of a caller's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyStats {
    /// Name of the `ApiKey`.
    pub name: String,
    /// When it was used last.
    pub last_used: Timestamp,
}

/// One deployment as a gateway serves it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentStats {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The rollout revision it serves.
    pub revision: i64,
    /// Since when.
    pub since: Timestamp,
    /// The rollout it counts for.
    pub rollout_id: String,
    /// The canary failed outright, and gets no more requests of this gateway.
    #[serde(default)]
    pub braked: bool,
    /// What copies of this rollout's requests cost so far, by the provider's price list, in millionths of a US dollar.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub copies_cost_micros: u64,
    /// Counters by version, since the gateway started.
    pub versions: BTreeMap<String, Observed>,
}

/// Keeps out of the stats what most deployments never have.
fn is_nothing(cost: &u64) -> bool {
    *cost == 0
}

/// Why a gateway could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// Nothing listens there: it serves nobody.
    #[error("{0}: nothing listens there")]
    Away(String),
    /// It may be serving, but didn't answer properly.
    #[error("{0}: {1}")]
    Unknown(String, String),
}

/// How the controller learns what the gateways serve.
pub trait Gateways: Send + Sync {
    /// Asks every gateway, about all deployments or one (namespace and name): only then with the times of answers. Each
    /// answer comes when it is there, so that nobody waits for a gateway that hangs; one that is away is left out.
    fn stats<'a>(&'a self, of: Option<[&'a str; 2]>) -> BoxStream<'a, Result<GatewayStats, GatewayError>>;
}

/// How the controller learns numbers that neither it nor a gateway counts.
pub trait Queries: Send + Sync {
    /// The number that a query gives, or why there is none.
    fn value<'a>(&'a self, query: &'a str) -> BoxFuture<'a, Result<f64, String>>;
}

/// A login at a registry. The password is never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What a mirror shall let nodes pull by a token: `PUT /drover/v1/pulls/TOKEN`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullGrant {
    /// The model as people write it.
    pub model: String,
    /// Whether its registry may be spoken to by plain http, where the mirror has no upstream of its own for it.
    #[serde(default)]
    pub insecure: bool,
    /// The login at its registry; unset: what the mirror has for that registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// The digest that it must have, as nodes report it or as the registry does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// What a granted model stands for right now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantedModel {
    /// The digest that a node reports once it has it.
    pub digest: String,
    /// The registry's digest of the manifest; the same for manifests in Ollama's own form.
    pub upstream_digest: String,
    /// Bytes of all layers.
    pub size_bytes: i64,
    /// Why this may be outdated: the registry could not be asked, and this is what the mirror had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<String>,
}

/// Why a mirror did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// It can't be reached.
    #[error("the mirror can't be reached: {0}")]
    Unreachable(String),
    /// It answered with an error of its own, for example a wrong key.
    #[error("the mirror answered HTTP {status}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// The model can't be had.
    #[error("{message}")]
    Pull {
        /// What happened.
        fault: Fault,
        /// In words; names the registry.
        message: String,
        /// When the registry asked to come back.
        retry_after: Option<Duration>,
    },
}

/// How the controller has a mirror let nodes pull.
pub trait Mirror: Send + Sync {
    /// Asks the registry what the model stands for now, and lets whoever has the token pull exactly that. The same
    /// token may be granted again, also with other terms.
    fn grant<'a>(&'a self, token: &'a str, grant: PullGrant) -> BoxFuture<'a, Result<GrantedModel, MirrorError>>;

    /// Takes a grant back; one that isn't there is as good.
    fn revoke<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<(), MirrorError>>;
}
