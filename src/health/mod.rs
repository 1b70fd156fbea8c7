//! `/health/models`: the fleet's health, answered from memory.
//!
//! The answers are prepared when objects change, a few times a second at most, and swapped whole; a request only picks
//! one of them.

mod answer;
mod facts;
mod start;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use axum::Router;
use futures::{FutureExt, Stream, StreamExt, stream};
use prometheus_client::metrics::{family::Family, gauge::Gauge};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use answer::Snapshot;
pub use facts::Objects;
pub use start::warn_at_start;

use crate::{
    api::{ModelPull, OllamaNode, Provider},
    cluster::{Watched, Watches},
    supervisor::{Supervisor, blocking},
    telemetry::{Metrics, Readiness},
};

/// Answers are prepared at most this often,
const AT_LEAST_BETWEEN: Duration = Duration::from_millis(250);
/// and preparing them may take this part of one processor's time at most,
const SHARE: u32 = 10;
/// but they are never older than this.
const AT_MOST_BETWEEN: Duration = Duration::from_secs(2);

/// What `/health/models` answers at the moment; cheap to clone.
#[derive(Clone, Default)]
pub struct FleetHealth {
    snapshot: Arc<ArcSwapOption<Snapshot>>,
    /// Whether the process serves from what it kept, though no object was read yet.
    serves: Readiness,
}

impl FleetHealth {
    /// One of a process that can do its work before any object was read when `serves` says so.
    pub fn new(serves: Readiness) -> Self {
        Self { snapshot: Arc::default(), serves }
    }

    /// The path.
    pub fn router(&self) -> Router {
        answer::router(self.clone())
    }

    /// Answers with this from now on.
    pub fn publish(&self, snapshot: Snapshot) {
        self.snapshot.store(Some(Arc::new(snapshot)));
    }

    /// Prepares answers from these objects for as long as the process runs.
    pub fn keep_current(&self, supervisor: &mut Supervisor, watched: WatchedFleet, metrics: &Metrics) {
        let keeper = Keeper { watched, health: self.clone(), missing: missing(metrics) };
        let stop = supervisor.stop_token();
        supervisor.service("health of models", keeper.run(stop));
    }
}

fn missing(metrics: &Metrics) -> Family<[(&'static str, &'static str); 1], Gauge> {
    let family = Family::default();
    metrics.register(|registry| {
        registry.register("missing_models", "Models that are not where they must be", family.clone());
    });
    family
}

/// The objects that say how a fleet is, as they are watched; cheap to clone.
#[derive(Clone)]
pub struct WatchedFleet {
    /// Nodes.
    pub nodes: Watched<OllamaNode>,
    /// Pulls.
    pub pulls: Watched<ModelPull>,
    /// Providers.
    pub providers: Watched<Provider>,
}

impl WatchedFleet {
    /// What of all that is watched concerns health.
    pub fn of(watches: &Watches) -> Self {
        let Watches { nodes, pulls, providers, .. } = watches.clone();
        Self { nodes, pulls, providers }
    }

    /// Word of every change.
    fn changes(&self) -> impl Stream<Item = ()> + Send + 'static {
        let Self { nodes, pulls, providers } = self;
        let providers = providers.changes().map(drop).boxed();
        stream::select_all([nodes.changes().map(drop).boxed(), pulls.changes().map(drop).boxed(), providers])
    }

    /// Whether there was a complete view of all.
    fn is_ready(&self) -> bool {
        self.nodes.is_ready() && self.pulls.is_ready() && self.providers.is_ready()
    }

    /// Waits for it.
    async fn ready(&self) -> Result<(), String> {
        self.nodes.ready().await?;
        self.pulls.ready().await?;
        self.providers.ready().await
    }

    /// As they are now.
    fn all(&self) -> Objects {
        Objects { nodes: self.nodes.all(), pulls: self.pulls.all(), providers: self.providers.all() }
    }
}

struct Keeper {
    watched: WatchedFleet,
    health: FleetHealth,
    missing: Family<[(&'static str, &'static str); 1], Gauge>,
}

impl Keeper {
    async fn run(self, stop: CancellationToken) -> Result<(), String> {
        let mut changes = self.watched.changes();
        while let Some(change) = stop.run_until_cancelled(changes.next()).await {
            change.ok_or("the watches ended")?;
            while let Some(Some(())) = changes.next().now_or_never() {}
            if self.watched.is_ready() {
                let began = Instant::now();
                self.prepare().await?;
                let pause = (began.elapsed() * SHARE).clamp(AT_LEAST_BETWEEN, AT_MOST_BETWEEN);
                stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            }
        }
        Ok(())
    }

    async fn prepare(&self) -> Result<(), String> {
        let watched = self.watched.clone();
        let snapshot = blocking(move || Snapshot::of(&watched.all()));
        let snapshot = snapshot.await.map_err(|error| error.to_string())?;
        for (required, count) in [("true", snapshot.missing_required()), ("false", snapshot.missing_optional())] {
            self.missing.get_or_create(&[("required", required)]).set(count);
        }
        self.health.publish(snapshot);
        Ok(())
    }
}
