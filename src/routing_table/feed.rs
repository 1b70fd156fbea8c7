//! Keeps the table current: watches in, tables out. Only this part of a gateway talks to the Kubernetes API.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::{
    FutureExt, StreamExt,
    stream::{self, BoxStream},
};
use jiff::Timestamp;
use tokio::time::{Instant, Interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Freshness, RoutingTable, SharedTable,
    compile::{Objects, compile},
    store,
};
use crate::{
    api::{
        ApiKey, FallbackChain, ModelCatalog, ModelDeployment, ModelPull, ModelVersion, OllamaNode, Provider,
        RoutingProfile, Worker,
    },
    cluster::{self, Client, Watched},
    supervisor::Supervisor,
    telemetry::Readiness,
};

/// A canary's weight is a lease: without word from the API for this long, its share goes to stable, because it may
/// have been taken back meanwhile.
pub const CANARY_LEASE: Duration = Duration::from_secs(60);
/// How often the API is asked for a sign of life.
const HEARTBEAT: Duration = Duration::from_secs(10);
const HEARTBEAT_WITHIN: Duration = Duration::from_secs(5);

/// Where tables go.
pub struct Target {
    /// What the gateway serves.
    pub table: SharedTable,
    /// Where it is kept for a restart.
    pub file: Option<PathBuf>,
    /// When it was last known to be right.
    pub freshness: Freshness,
    /// Set once there is a table to serve.
    pub readiness: Readiness,
}

/// Puts the table that was last kept in place, if there is one.
pub fn restore(target: &Target) {
    let Some(file) = &target.file else { return };
    match store::load(file) {
        Ok(Some(table)) => {
            target.table.store(Arc::new(table));
            target.freshness.confirmed_at(store::saved_at(file));
            target.readiness.set(true);
            info!(file = %file.display(), "serving the table kept from before, stable versions only");
        }
        Ok(None) => {}
        Err(error) => warn!(file = %file.display(), %error, "the table kept from before can't be used"),
    }
}

/// Hands the watches of one namespace, of which others need some, too, and the compiler to the supervisor.
pub fn start(
    supervisor: &mut Supervisor,
    client: Client,
    namespace: &str,
    (nodes, pulls, providers): (Watched<OllamaNode>, Watched<ModelPull>, Watched<Provider>),
    target: Target,
) {
    let feed = Feed {
        nodes,
        pulls,
        providers,
        versions: cluster::watch(supervisor, &client, Some(namespace)),
        deployments: cluster::watch(supervisor, &client, Some(namespace)),
        keys: cluster::watch(supervisor, &client, Some(namespace)),
        catalogs: cluster::watch(supervisor, &client, Some(namespace)),
        profiles: cluster::watch(supervisor, &client, Some(namespace)),
        chains: cluster::watch(supervisor, &client, Some(namespace)),
        workers: cluster::watch(supervisor, &client, Some(namespace)),
        client,
        target,
    };
    let stop = supervisor.stop_token();
    supervisor.service("routing table", feed.run(stop));
}

struct Feed {
    client: Client,
    nodes: Watched<OllamaNode>,
    pulls: Watched<ModelPull>,
    providers: Watched<Provider>,
    versions: Watched<ModelVersion>,
    deployments: Watched<ModelDeployment>,
    keys: Watched<ApiKey>,
    catalogs: Watched<ModelCatalog>,
    profiles: Watched<RoutingProfile>,
    chains: Watched<FallbackChain>,
    workers: Watched<Worker>,
    target: Target,
}

impl Feed {
    async fn run(self, stop: CancellationToken) -> Result<(), String> {
        let mut changes = stream::select_all([
            self.nodes.changes().map(drop).boxed(),
            self.pulls.changes().map(drop).boxed(),
            self.providers.changes().map(drop).boxed(),
            self.versions.changes().map(drop).boxed(),
            self.deployments.changes().map(drop).boxed(),
            self.keys.changes().map(drop).boxed(),
            self.catalogs.changes().map(drop).boxed(),
            self.profiles.changes().map(drop).boxed(),
            self.chains.changes().map(drop).boxed(),
            self.workers.changes().map(drop).boxed(),
        ]);
        let mut heartbeats = heartbeats(self.client.clone());
        let mut heard = Instant::now();
        let mut complete = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                change = changes.next() => {
                    change.ok_or("the watches ended")?;
                    heard = Instant::now();
                    // A burst of changes makes one table.
                    while let Some(Some(())) = changes.next().now_or_never() {}
                    // One ready store at a time becomes ready; nothing is served from half a view.
                    complete = complete || self.is_complete();
                    if complete {
                        self.publish();
                        self.target.freshness.confirmed_at(Some(Timestamp::now()));
                    }
                }
                Some(alive) = heartbeats.next() => {
                    if alive {
                        if complete && heard.elapsed() >= CANARY_LEASE {
                            self.publish();
                        }
                        heard = Instant::now();
                        if complete {
                            self.target.freshness.confirmed_at(Some(Timestamp::now()));
                        }
                    } else if heard.elapsed() >= CANARY_LEASE {
                        self.suspend_canaries();
                    }
                }
            }
        }
    }

    fn is_complete(&self) -> bool {
        let of_models = self.nodes.is_ready() && self.pulls.is_ready() && self.versions.is_ready();
        let of_names = self.catalogs.is_ready() && self.profiles.is_ready() && self.chains.is_ready();
        let of_callers = self.keys.is_ready() && self.workers.is_ready();
        of_models && of_names && of_callers && self.deployments.is_ready() && self.providers.is_ready()
    }

    fn publish(&self) {
        let objects = Objects {
            nodes: self.nodes.all(),
            versions: self.versions.all(),
            deployments: self.deployments.all(),
            pulls: self.pulls.all(),
            providers: self.providers.all(),
            keys: self.keys.all(),
            catalogs: self.catalogs.all(),
            profiles: self.profiles.all(),
            chains: self.chains.all(),
            workers: self.workers.all(),
        };
        let earlier = self.target.table.load();
        let table = compile(&objects, Timestamp::now()).keep_times(&earlier);
        self.target.readiness.set(true);
        if table != **earlier {
            for warning in table.warnings.iter().filter(|warning| !earlier.warnings.contains(warning)) {
                warn!("{warning}");
            }
            self.replace(table);
        }
    }

    fn suspend_canaries(&self) {
        let table = self.target.table.load().as_ref().clone().without_canaries();
        if table != **self.target.table.load() {
            warn!(
                "no word from the Kubernetes API: canaries may have been taken back, stable versions get their share"
            );
            self.target.table.store(Arc::new(table));
        }
    }

    fn replace(&self, table: RoutingTable) {
        let table = Arc::new(table);
        self.target.table.store(table.clone());
        let Some(file) = &self.target.file else { return };
        if let Err(error) = store::save(file, &table) {
            warn!(file = %file.display(), %error, "the table can't be kept for a restart");
        }
    }
}

/// Whether the API answers, asked regularly. Waiting for an answer holds up nothing else: a rollback may be arriving.
fn heartbeats(client: Client) -> BoxStream<'static, bool> {
    let beats = (tokio::time::interval(HEARTBEAT), client);
    let next = |(mut interval, client): (Interval, Client)| async move {
        interval.tick().await;
        let answer = tokio::time::timeout(HEARTBEAT_WITHIN, client.apiserver_version()).await;
        Some((matches!(answer, Ok(Ok(_))), (interval, client)))
    };
    stream::unfold(beats, next).boxed()
}
