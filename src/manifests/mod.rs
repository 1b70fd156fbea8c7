//! A folder whose manifests are what is wanted: applied at the start, on every change and, so that what others changed
//! is put right, every minute. What vanishes from the folder is deleted, if it came from there and if it is sure that
//! it vanished. Like the GitOps tools do it: the folder wins over other hands, field by field.

mod documents;
mod folder;
mod pass;
mod plan;
mod settling;

use std::{collections::BTreeSet, path::PathBuf};

use prometheus_client::metrics::gauge::Gauge;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use documents::{Document, Fault, Place, parse};
pub use folder::{Contents, Look, look, read};
pub use settling::{LOOK_EVERY, Settling};

use crate::{
    api::LABEL_APPLIED_BY,
    cluster::{Applier, Client, Events},
    supervisor::{Supervisor, blocking},
    telemetry::{Metrics, Readiness},
};
use pass::Outcome;

const MANAGER: &str = "drover-manifests";
/// On every object that came from the folder.
const LABEL: (&str, &str) = (LABEL_APPLIED_BY, "manifests");

/// Keeps the objects of the API as the folder has them, for as long as the process runs. Those that name no namespace
/// are in `namespace`. What it gives is set once the folder was applied, or can't be.
pub fn start(
    supervisor: &mut Supervisor,
    client: Client,
    dir: PathBuf,
    namespace: String,
    metrics: &Metrics,
) -> Readiness {
    let faults = Gauge::default();
    metrics.register(|registry| {
        registry.register("manifest_faults", "Manifests that can't be read or are refused", faults.clone());
    });
    let events = Events::new(&client, MANAGER);
    let tried = Readiness::default();
    let keeper = Keeper { client, dir, namespace, events, faults, tried: tried.clone(), told: BTreeSet::new() };
    let stop = supervisor.stop_token();
    supervisor.service("manifests", keeper.run(stop));
    tried
}

struct Keeper {
    client: Client,
    dir: PathBuf,
    namespace: String,
    events: Events,
    faults: Gauge,
    tried: Readiness,
    /// What is wrong, as people were told.
    told: BTreeSet<String>,
}

impl Keeper {
    async fn run(mut self, stop: CancellationToken) -> Result<(), String> {
        let applier = Applier::new(self.client.clone(), MANAGER, LABEL).await.map_err(|error| error.to_string())?;
        let mut settling = Settling::default();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            let dir = self.dir.clone();
            let look = match blocking(move || folder::look(&dir)).await {
                Ok(look) => look,
                Err(error) => {
                    settling.lost();
                    self.tell([format!("the folder can't be read, so nothing of it is applied or deleted: {error}")]);
                    continue;
                }
            };
            if settling.is_due(&look, Instant::now())
                && let Some(outcome) = self.apply(&applier, &look).await?
            {
                if settling.done(look, Instant::now(), outcome.is_well()) {
                    info!("manifests in {}: {} objects are applied", self.dir.display(), outcome.applied);
                }
                self.report(outcome, &applier).await;
            }
        }
        Ok(())
    }

    /// Applies what was seen; `None` when it changed while it was read.
    async fn apply(&self, applier: &Applier, seen: &Look) -> Result<Option<Outcome>, String> {
        let (dir, look) = (self.dir.clone(), seen.clone());
        let read = move || {
            let contents = folder::read(&dir, &look);
            Ok(folder::look(&dir).is_ok_and(|now| now == look).then_some(contents))
        };
        match blocking(read).await.map_err(|error| error.to_string())? {
            Some(contents) => Ok(Some(pass::run(applier, contents, &self.namespace).await)),
            None => Ok(None),
        }
    }

    async fn report(&mut self, outcome: Outcome, applier: &Applier) {
        self.faults.set(outcome.faults.len() as i64);
        for identity in &outcome.deleted {
            info!("{identity} is deleted: it stands in {} no longer", self.dir.display());
        }
        for (fault, refused) in &outcome.faults {
            if let Some(refused) = refused
                && !self.told.contains(&fault.to_string())
                && let Ok(Some(object)) = applier.reference(refused).await
            {
                self.events.publish_on(&object, "ManifestRefused", &fault.to_string(), true).await;
            }
        }
        let faults = outcome.faults.iter().map(|(fault, _)| fault.to_string()).chain(outcome.kept);
        self.tell(faults);
    }

    /// Says what is new of what is wrong, and when all is well again.
    fn tell(&mut self, wrong: impl IntoIterator<Item = String>) {
        let wrong: BTreeSet<String> = wrong.into_iter().collect();
        let dir = self.dir.display();
        wrong.difference(&self.told).for_each(|why| warn!("manifests in {dir}: {why}"));
        if wrong.is_empty() && !self.told.is_empty() {
            info!("manifests in {dir}: all of them are applied now");
        }
        self.tried.set(true);
        self.told = wrong;
    }
}
