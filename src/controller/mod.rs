//! The reconcilers, one folder a kind: `mod` drives, `observe` reads, `plan` decides what to do, `act` does it, and
//! `status` says what people see. `plan` and `status` are pure.

pub mod audit;
pub mod client;
pub mod deployment;
mod driver;
pub mod key;
mod meters;
pub mod node;
pub mod provider;
pub mod pull;
mod routing;
pub mod version;
mod written;

use std::{collections::HashSet, ops::Deref, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube_runtime::reflector::ObjectRef;
use sha2::{Digest, Sha256};
use tokio::sync::{broadcast, watch};

use crate::{
    api::{ModelPull, OllamaNode},
    cluster::{self, Client, Events, Watched, Watches},
    ports::{AuditLog, Gateways, Mirror, NodeApi, NodeError, ProviderApi, ProviderKeys, Queries},
    supervisor::{Jobs, Supervisor},
    telemetry::{Metrics, Readiness},
};

const REMEMBERED_POKES: usize = 4096;

/// Why a reconcile failed; the kind of failure, not its words, decides what is done about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Kubernetes API.
    #[error("the Kubernetes API: {0}")]
    Api(#[from] kube::Error),
    /// A node.
    #[error("node {node}: {error}")]
    Node {
        /// The node's name.
        node: String,
        /// What went wrong there.
        error: NodeError,
    },
}

impl Error {
    /// Whether the object was changed meanwhile: decided again on the new one, at once and without a fuss.
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 409)
    }

    /// Whether the object is gone: nothing is left to do.
    fn is_gone(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 404)
    }
}

/// How the controller behaves.
#[derive(Clone)]
pub struct Options {
    /// The only namespace to look at.
    pub namespace: Option<String>,
    /// How often each node is looked at.
    pub probe_interval: Duration,
    /// How many nodes may pull at once.
    pub max_pulls: usize,
    /// Where nodes reach the mirror.
    pub mirror_advertise: String,
    /// Where nodes on this machine reach it, where that is another address.
    pub mirror_nearby: Option<String>,
    /// What makes pull tokens unguessable; the same key gives the same tokens.
    pub mirror_key: Vec<u8>,
}

/// What the controller speaks to.
pub struct Parts {
    /// The Kubernetes API.
    pub client: Client,
    /// The nodes.
    pub ollama: Arc<dyn NodeApi>,
    /// The gateways.
    pub gateways: Arc<dyn Gateways>,
    /// Where other numbers come from, if there is such a place.
    pub queries: Option<Arc<dyn Queries>>,
    /// The mirror, if there is one.
    pub mirror: Option<Arc<dyn Mirror>>,
    /// The providers.
    pub provider_api: Arc<dyn ProviderApi>,
    /// Their keys.
    pub provider_keys: Arc<dyn ProviderKeys>,
    /// Where their keys are, if that is watched.
    pub secrets: Option<Watched<Secret>>,
    /// Where the audit is kept, if it is.
    pub audit: Option<Arc<dyn AuditLog>>,
}

/// What every reconciler shares.
pub struct Context {
    /// The Kubernetes API, for writes.
    pub client: Client,
    /// The nodes' API.
    pub ollama: Arc<dyn NodeApi>,
    /// The gateways.
    pub gateways: Arc<dyn Gateways>,
    /// The providers.
    pub provider_api: Arc<dyn ProviderApi>,
    /// Their keys.
    pub provider_keys: Arc<dyn ProviderKeys>,
    /// Where other numbers come from.
    queries: Option<Arc<dyn Queries>>,
    /// Events on objects.
    pub events: Events,
    /// Work that ends by itself.
    pub jobs: Jobs,
    /// How the controller behaves.
    pub options: Options,
    /// Tells this cluster from any other.
    pub cluster_uid: String,
    /// What there is.
    pub watches: Watches,
    /// Nodes that this process has looked at, and whose status says so.
    pub looked: watch::Sender<HashSet<ObjectRef<OllamaNode>>>,
    /// What is counted.
    pub meters: meters::Meters,
    /// Objects that something outside the API happened to.
    pub pokes: Pokes,
    /// Pulls under way.
    pub pulling: Arc<pull::Pulling>,
    /// What the mirror lets nodes pull; `None` without a mirror.
    pub grants: Option<Arc<pull::Grants>>,
}

/// Asks for an object to be looked at now.
#[derive(Clone)]
pub struct Pokes {
    nodes: broadcast::Sender<ObjectRef<OllamaNode>>,
    pulls: broadcast::Sender<ObjectRef<ModelPull>>,
}

impl Default for Pokes {
    fn default() -> Self {
        Self { nodes: broadcast::channel(REMEMBERED_POKES).0, pulls: broadcast::channel(REMEMBERED_POKES).0 }
    }
}

impl Pokes {
    /// A node's models changed.
    pub fn node(&self, node: ObjectRef<OllamaNode>) {
        // Without a listener the controller is ending; a lagging one is caught by the regular probes.
        let _ = self.nodes.send(node);
    }

    /// An attempt of a pull ended.
    pub fn pull(&self, pull: ObjectRef<ModelPull>) {
        let _ = self.pulls.send(pull);
    }
}

/// Most of what reconcilers ask the context for is what there is.
impl Deref for Context {
    type Target = Watches;

    fn deref(&self) -> &Watches {
        &self.watches
    }
}

impl Context {
    /// The number that a query of an analysis gives, or why there is none.
    async fn value(&self, query: &str) -> Result<f64, String> {
        match &self.queries {
            Some(queries) => queries.value(query).await,
            None => Err("the controller has no prometheus-url".into()),
        }
    }

    /// Eight hex digits for this installation and namespace, part of every alias.
    pub fn alias_id(&self, namespace: &str) -> String {
        let hash = Sha256::digest(format!("{}/{namespace}", self.cluster_uid));
        hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Hands every part of the controller to the supervisor; what they share comes back.
///
/// # Errors
/// When the cluster can't be asked for its uid.
pub async fn start(
    supervisor: &mut Supervisor,
    parts: Parts,
    options: Options,
    metrics: &Metrics,
    readiness: Readiness,
) -> Result<Arc<Context>, kube::Error> {
    let Parts { client, ollama, gateways, queries, mirror, provider_api, provider_keys, secrets, audit } = parts;
    let namespace = options.namespace.clone();
    let grants = mirror.map(|mirror| {
        let addresses =
            pull::Addresses { advertised: options.mirror_advertise.clone(), nearby: options.mirror_nearby.clone() };
        Arc::new(pull::Grants::new(mirror, addresses, options.mirror_key.clone()))
    });
    let scope = namespace.as_deref();
    let watches = Watches {
        nodes: cluster::watch_by(supervisor, &client, scope, pull::words_of_node),
        pulls: cluster::watch_by(supervisor, &client, scope, pull::words_of_pull),
        keys: cluster::watch_by(supervisor, &client, scope, key::words_of_key),
        versions: cluster::watch(supervisor, &client, scope),
        deployments: cluster::watch(supervisor, &client, scope),
        providers: cluster::watch(supervisor, &client, scope),
        catalogs: cluster::watch(supervisor, &client, scope),
        profiles: cluster::watch(supervisor, &client, scope),
        chains: cluster::watch(supervisor, &client, scope),
        workers: cluster::watch(supervisor, &client, scope),
    };
    let context = Arc::new(Context {
        cluster_uid: cluster::uid(&client).await?,
        watches: watches.clone(),
        events: Events::new(&client, "drover-controller"),
        jobs: supervisor.jobs(),
        looked: watch::Sender::default(),
        meters: meters::Meters::registered(metrics),
        pokes: Pokes::default(),
        pulling: Arc::new(pull::Pulling::new(options.max_pulls, pull::Metrics::new(metrics))),
        grants,
        client,
        ollama,
        gateways,
        provider_api,
        provider_keys,
        queries,
        options,
    });
    metrics.register(|registry| registry.register_collector(Box::new(meters::Objects(watches.clone()))));
    let stop = supervisor.stop_token();
    supervisor.service("node controller", node::run(context.clone(), stop.clone()));
    supervisor.service("pull controller", pull::run(context.clone(), stop.clone()));
    supervisor.service("version controller", version::run(context.clone(), stop.clone()));
    supervisor.service("deployment controller", deployment::run(context.clone(), stop.clone()));
    supervisor.service("provider controller", provider::run(context.clone(), secrets, stop.clone()));
    if let Some(log) = audit {
        supervisor.service(
            "audit",
            audit::run(context.deployments.clone(), log, context.meters.audit_lost.clone(), stop.clone()),
        );
    }
    supervisor.service("key controller", key::run(context.clone(), stop.clone()));
    routing::start(supervisor, &context);
    supervisor.service("readiness", async move {
        watches.ready().await?;
        readiness.set(true);
        stop.cancelled().await;
        Ok::<(), String>(())
    });
    Ok(context)
}
