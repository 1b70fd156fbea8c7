//! Keeps the table current: watches in, tables out. Only this part of a gateway talks to the Kubernetes API.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::{
    FutureExt, StreamExt,
    stream::{self, BoxStream},
};
use jiff::Timestamp;
use kube::{Api, ResourceExt, api::ListParams};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Freshness, SharedTable,
    compile::{Objects, compile},
    lease::{Lease, Sight},
    store,
};
use crate::{
    api::ModelDeployment,
    cluster::{self, Client, Watches},
    supervisor::Supervisor,
    telemetry::Readiness,
};

/// How long the API may take to say what it has.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// After a table the next one waits so many times as long as that one took, and at most this.
const REST: u32 = 4;
const LONGEST_REST: Duration = Duration::from_millis(200);

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
    /// How long canaries get requests without proof that the table follows the API.
    pub canary_lease: Duration,
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

/// Hands the compiler to the supervisor.
pub fn start(supervisor: &mut Supervisor, client: Client, namespace: &str, watches: Watches, target: Target) {
    let lease = Lease::new(target.canary_lease);
    let feed = Feed { watches, lease, held: false, due: None, rest: Instant::now(), target };
    let sights = sights(cluster::api(&client, Some(namespace)), feed.lease.beat());
    let stop = supervisor.stop_token();
    supervisor.service("routing table", feed.run(sights, stop));
}

/// When the API was asked, and what it had.
type Looked = Option<(Instant, Sight)>;

struct Feed {
    watches: Watches,
    target: Target,
    lease: Lease,
    /// Whether the lease held when the table was published.
    held: bool,
    /// When something that changed is to be published.
    due: Option<Instant>,
    /// Not before this: tables of big fleets take time, which requests need, too.
    rest: Instant,
}

impl Feed {
    async fn run(mut self, mut sights: BoxStream<'static, Looked>, stop: CancellationToken) -> Result<(), String> {
        let mut changes = self.watches.changes();
        let mut complete = false;
        loop {
            let lapse = self.lease.ends().filter(|_| self.held);
            let wake = [self.due, lapse].into_iter().flatten().min();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                change = changes.next() => {
                    change.ok_or("the watches ended")?;
                    // A burst of changes makes one table.
                    while let Some(Some(())) = changes.next().now_or_never() {}
                    // One ready store at a time becomes ready; nothing is served from half a view.
                    complete = complete || self.watches.are_ready();
                    if complete {
                        self.due.get_or_insert(self.rest.max(Instant::now()));
                    }
                }
                Some(looked) = sights.next() => {
                    let lags = looked.is_some_and(|(asked, sight)| self.lease.look_for(asked, sight));
                    if complete && self.renew() {
                        if !self.held {
                            self.publish();
                        }
                    } else if complete && lags {
                        warn!("the watch of deployments is behind the Kubernetes API and is started again");
                        self.watches.deployments.restart();
                    }
                }
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    self.renew();
                    if self.held && !self.lease.holds(Instant::now()) {
                        warn!("no proof that canaries were not taken back meanwhile: stable versions get their share");
                    }
                    self.publish();
                }
            }
        }
    }

    /// Renews the lease if the watch has brought what the API had; whether it has.
    fn renew(&mut self) -> bool {
        if !self.lease.is_awaiting() {
            return false;
        }
        let deployments = self.watches.deployments.all();
        let renewed = self.lease.renew(&deployments.iter().map(|deployment| version_of(&**deployment)).collect());
        if renewed {
            self.target.freshness.confirmed_at(Some(Timestamp::now()));
        }
        renewed
    }

    /// Serves what the stores have now, and rests.
    fn publish(&mut self) {
        let began = Instant::now();
        self.replace();
        let now = Instant::now();
        self.due = None;
        self.rest = now + (REST * (now - began)).min(LONGEST_REST);
    }

    /// Canaries are served only while the lease holds. What is kept for a restart is only what was known to be right: its age
    /// is told by its file.
    fn replace(&mut self) {
        let objects = Objects::of(&self.watches);
        let held = self.lease.holds(Instant::now());
        let earlier = self.target.table.load_full();
        let mut table = compile(&objects, Timestamp::now()).keep_times(&earlier);
        if !held {
            table = table.without_canaries();
        }
        let was_held = std::mem::replace(&mut self.held, held);
        self.target.readiness.set(true);
        if table != *earlier {
            for warning in table.warnings.iter().filter(|warning| !earlier.warnings.contains(warning)) {
                warn!("{warning}");
            }
            self.target.table.store(Arc::new(table));
            if held {
                self.keep();
            }
        } else if held && !was_held {
            self.keep();
        }
    }

    fn keep(&self) {
        let Some(file) = &self.target.file else { return };
        if let Err(error) = store::save(file, &self.target.table.load()) {
            warn!(file = %file.display(), %error, "the table can't be kept for a restart");
        }
    }
}

impl Objects {
    /// All that is there.
    pub fn of(watches: &Watches) -> Self {
        Self { keys: watches.keys.all(), ..Self::but_keys(watches) }
    }

    /// All that decides what a name stands for.
    pub fn but_keys(watches: &Watches) -> Self {
        Self {
            nodes: watches.nodes.all(),
            versions: watches.versions.all(),
            deployments: watches.deployments.all(),
            pulls: watches.pulls.all(),
            providers: watches.providers.all(),
            keys: Vec::new(),
            catalogs: watches.catalogs.all(),
            profiles: watches.profiles.all(),
            chains: watches.chains.all(),
            workers: watches.workers.all(),
        }
    }
}

/// Which deployments the API has, asked regularly; `None`: it didn't say. Waiting for an answer holds up nothing else: a
/// rollback may be arriving.
fn sights(api: Api<ModelDeployment>, beat: Duration) -> BoxStream<'static, Looked> {
    let next = |(mut interval, api): (Interval, Api<ModelDeployment>)| async move {
        interval.tick().await;
        let asked = Instant::now();
        let answer = tokio::time::timeout(ANSWER_WITHIN, api.list_metadata(&ListParams::default())).await;
        let sight = answer.ok().and_then(Result::ok).map(|list| Sight {
            version: number(list.metadata.resource_version.as_deref()),
            objects: list.items.iter().map(version_of).collect(),
        });
        Some((sight.map(|sight| (asked, sight)), (interval, api)))
    };
    let mut beats = tokio::time::interval(beat);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold((beats, api), next).boxed()
}

fn version_of(object: &impl ResourceExt) -> ((String, String), u64) {
    let key = (object.namespace().unwrap_or_default(), object.name_any());
    (key, number(object.resource_version().as_deref()))
}

/// Resource versions are decimal numbers that grow.
fn number(version: Option<&str>) -> u64 {
    version.and_then(|version| version.parse().ok()).unwrap_or_default()
}
