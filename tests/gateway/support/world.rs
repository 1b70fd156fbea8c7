//! Tables over fake nodes, and a gateway that serves them.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use drover::{
    domain::digest::Digest,
    gateway::{self, Gateway, Settings, recorder::Recorder},
    ollama::Ollama,
    ports::GatewayStats,
    providers::{NodesAndProviders, Providers},
    routing_table::{Canary, Deployment, Freshness, Holder, Key, Namespace, Node, RoutingTable, SharedTable, Target},
    telemetry::Metrics,
};
use reqwest::header::HeaderMap;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{FakeNode, provider::OneKey};

/// The name under which nodes hold a version of `support-bot`.
pub fn alias(version: &str) -> String {
    format!("drover-0a1b2c3d/support-bot:{version}")
}

/// A fake node as the table has it: weight 100, 4 requests at once.
pub fn holder(node: &FakeNode) -> Holder {
    let entry = Node {
        id: format!("default/{}", node.name),
        name: node.name.clone(),
        url: node.url.clone(),
        weight: 100,
        max_concurrent_requests: 4,
        keep_alive: None,
        context_length: None,
        max_context_length: None,
    };
    Holder { node: Arc::new(entry), loaded: false, digest: "sha256:dddd".into() }
}

/// A version of `support-bot`, made from `llama3.2:3b`, that these nodes hold from now on.
pub fn version(version: &str, nodes: &[&FakeNode]) -> Target {
    nodes.iter().for_each(|node| node.hold_model(&alias(version)));
    Target {
        tag: format!("llama3.2:3b-{version}"),
        version: Some(version.into()),
        digest: format!("sha256:{version}"),
        model: alias(version),
        holders: nodes.iter().map(|node| holder(node)).collect(),
        ..Target::default()
    }
}

/// A plain model that these nodes hold from now on.
pub fn plain(tag: &str, nodes: &[&FakeNode]) -> Target {
    nodes.iter().for_each(|node| node.hold_model(tag));
    Target {
        tag: tag.into(),
        digest: "sha256:dddd".into(),
        model: tag.into(),
        holders: nodes.iter().map(|node| holder(node)).collect(),
        ..Target::default()
    }
}

pub fn deployment(stable: Target, canary: Option<Canary>) -> Deployment {
    Deployment {
        revision: 7,
        since: "2026-11-20T20:00:00Z".parse().unwrap(),
        rollout_id: "r1".into(),
        stable,
        canary,
        sticky_header: None,
        schema_check: false,
    }
}

pub fn canary(weight: u8, target: Target) -> Option<Canary> {
    Some(Canary { weight, shadow: None, target })
}

/// A table with `support-bot` and plain models in the namespace `default`.
pub fn table(deployment: Option<Deployment>, tags: &[Target]) -> RoutingTable {
    let full = |tag: &str| tag.parse::<drover::domain::model_name::ModelName>().unwrap().to_string();
    let targets = deployment.iter().flat_map(|d| std::iter::once(&d.stable).chain(d.canary.iter().map(|c| &c.target)));
    let holders = targets.chain(tags).flat_map(|target| &target.holders);
    let nodes = holders.map(|holder| (holder.node.name.clone(), holder.node.clone())).collect();
    let namespace = Namespace {
        nodes,
        deployments: deployment.map(|deployment| ("support-bot".into(), deployment)).into_iter().collect(),
        tags: tags.iter().map(|target| (full(&target.tag), target.clone())).collect(),
        ..Namespace::default()
    };
    RoutingTable { namespaces: BTreeMap::from([("default".into(), namespace)]), ..RoutingTable::default() }
}

/// The same table with these keys, each beside what its callers send.
pub fn with_keys(mut table: RoutingTable, keys: impl IntoIterator<Item = (&'static str, Key)>) -> RoutingTable {
    let namespace = table.namespaces.get_mut("default").unwrap();
    let hash = |secret: &str| Digest::from_sha256(&Sha256::digest(secret));
    namespace.keys = keys.into_iter().map(|(secret, key)| (hash(secret), Arc::new(key))).collect();
    table
}

/// A key that may be used for everything.
pub fn key(name: &str) -> Key {
    Key { name: name.into(), gateways: 1, ..Key::default() }
}

/// A gateway on a port of its own.
pub struct World {
    pub gateway: Gateway,
    pub url: String,
    pub table: SharedTable,
    pub metrics: Metrics,
    pub http: reqwest::Client,
    pub shutdown: CancellationToken,
    pub server: JoinHandle<std::io::Result<()>>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl World {
    pub async fn start(table: RoutingTable) -> Self {
        Self::start_with(table, Settings::default()).await
    }

    pub async fn start_with(table: RoutingTable, settings: Settings) -> Self {
        Self::start_recording(table, settings, Recorder::default()).await
    }

    pub async fn start_recording(table: RoutingTable, settings: Settings, recorder: Recorder) -> Self {
        Self::start_at("127.0.0.1", table, settings, recorder).await
    }

    /// The same on another address of this machine.
    pub async fn start_at(address: &str, table: RoutingTable, settings: Settings, recorder: Recorder) -> Self {
        // A second test in this process finds it installed, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self::start_all(address, table, settings, recorder, Ollama::new().unwrap()).await
    }

    /// A gateway that reaches its nodes by this client.
    pub async fn start_through(table: RoutingTable, ollama: Ollama) -> Self {
        Self::start_all("127.0.0.1", table, Settings::default(), Recorder::default(), ollama).await
    }

    async fn start_all(
        address: &str,
        table: RoutingTable,
        settings: Settings,
        recorder: Recorder,
        ollama: Ollama,
    ) -> Self {
        let table: SharedTable = Arc::new(ArcSwap::from_pointee(table));
        let providers = Providers::new(Arc::new(OneKey)).unwrap();
        let inference = NodesAndProviders { nodes: Arc::new(ollama), providers };
        let gateway = Gateway::recording(table.clone(), Arc::new(inference), settings, recorder);
        let metrics = Metrics::default();
        metrics.register_conventional(|conventions, own| gateway.register(conventions, own, Freshness::default()));
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(gateway::serve(listener, gateway.clone(), shutdown.clone()));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { gateway, url, table, metrics, http, shutdown, server }
    }

    pub fn request(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        self.http.post(format!("{}{path}", self.url)).body(body.to_string())
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::read(self.request(path, body).send().await.unwrap()).await
    }

    pub async fn post_nothing(&self, path: &str) -> Answer {
        Answer::read(self.http.post(format!("{}{path}", self.url)).send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::read(self.http.get(format!("{}{path}", self.url)).send().await.unwrap()).await
    }

    pub async fn stats(&self) -> GatewayStats {
        serde_json::from_str(&self.get("/drover/v1/stats").await.text).unwrap()
    }

    /// The value of one series of `/metrics`; 0 when there is none.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.metrics.text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Attempts and failures of a version of `support-bot`.
    pub async fn counts(&self, version: &str) -> (u64, u64) {
        let stats = self.stats().await;
        let stats = stats.deployments.iter().find(|deployment| deployment.name == "support-bot").unwrap();
        stats.versions.get(version).map_or((0, 0), |counts| (counts.attempts, counts.failures))
    }
}

impl Answer {
    pub async fn read(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        self.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The content of a native chat answer, streamed or not.
    #[track_caller]
    pub fn content(&self) -> String {
        self.lines().iter().filter_map(|line| line["message"]["content"].as_str().map(str::to_owned)).collect()
    }

    /// The data of each server-sent event.
    pub fn events(&self) -> Vec<String> {
        let data = |event: &str| event.strip_prefix("data: ").unwrap_or_else(|| panic!("{event:?}")).to_owned();
        self.text.split("\n\n").filter(|event| !event.is_empty()).map(data).collect()
    }
}
