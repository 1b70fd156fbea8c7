//! What this gateway counts: turns of each rollout's split, and what became of each version's attempts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::counter::Counter;
use crate::{
    domain::{routing::fails_outright, run_record::Session},
    ports::{DeploymentStats, RunRecord},
    routing_table::{Deployment as Served, RoutingTable, Target},
};

/// Namespace and name of a deployment.
type Key = (String, String);

#[derive(Debug, Default)]
struct Deployment {
    /// By rollout.
    turns: HashMap<String, Arc<AtomicU64>>,
    /// By version.
    counters: BTreeMap<String, Arc<Counter>>,
    /// The rollout that failures in a row are counted for.
    rollout_id: String,
    /// The revision, and with it the step, that sessions are counted for.
    revision: i64,
    /// What the copies of this rollout's requests cost, in millionths of a dollar.
    spent: Arc<AtomicU64>,
}

impl Deployment {
    /// Begins what a new table says begins.
    fn follow(&mut self, served: &Served) {
        if self.rollout_id != served.rollout_id {
            self.rollout_id.clone_from(&served.rollout_id);
            self.counters.values().for_each(|counter| counter.begin_rollout());
            self.spent = Arc::default();
        }
        if self.revision != served.revision {
            self.revision = served.revision;
            self.counters.values().for_each(|counter| counter.begin_step());
        }
        self.turns.retain(|rollout, _| *rollout == served.rollout_id);
    }
}

/// The counts of a deployment, which begin with this rollout.
fn deployment_of<'a>(
    counts: &'a mut HashMap<Key, Deployment>,
    namespace: &str,
    deployment: &str,
    rollout_id: &str,
) -> &'a mut Deployment {
    let begun = || Deployment { rollout_id: rollout_id.into(), ..Deployment::default() };
    counts.entry((namespace.into(), deployment.into())).or_insert_with(begun)
}

/// The counts, since the gateway started.
#[derive(Debug, Default)]
pub struct Tally(Mutex<HashMap<Key, Deployment>>);

impl Tally {
    /// Where those requests of a rollout are counted that no session decides.
    pub fn turns(&self, namespace: &str, deployment: &str, rollout_id: &str) -> Arc<AtomicU64> {
        let mut counts = self.lock();
        let turns = &mut deployment_of(&mut counts, namespace, deployment, rollout_id).turns;
        turns.entry(rollout_id.into()).or_default().clone()
    }

    /// Where a version's attempts are counted.
    pub fn counter(&self, namespace: &str, deployment: &str, rollout_id: &str, version: &str) -> Arc<Counter> {
        let mut counts = self.lock();
        let counters = &mut deployment_of(&mut counts, namespace, deployment, rollout_id).counters;
        counters.entry(version.into()).or_default().clone()
    }

    /// Where it is counted what the copies of requests cost.
    pub fn spent(&self, namespace: &str, deployment: &str, rollout_id: &str) -> Arc<AtomicU64> {
        deployment_of(&mut self.lock(), namespace, deployment, rollout_id).spent.clone()
    }

    /// Counts a score for the version that answered, if its deployment still has that one on either side.
    pub fn rated(&self, table: &RoutingTable, record: &RunRecord, score: f64) {
        let Some(resolved) = &record.resolved else { return };
        let (Some(name), Some(version)) = (resolved.deployment.as_deref(), resolved.version.as_deref()) else { return };
        let Some(deployment) = table.namespace(&record.namespace).deployments.get(name) else { return };
        let is_it = |target: &Target| target.version.as_deref() == Some(version);
        if is_it(&deployment.stable) || deployment.canary.as_ref().is_some_and(|canary| is_it(&canary.target)) {
            let session = record.session.map(|Session(session)| session);
            self.counter(&record.namespace, name, &deployment.rollout_id, version).rated(session, score);
        }
    }

    /// Forgets deployments and rollouts that the table no longer has.
    pub fn keep(&self, table: &RoutingTable) {
        self.lock().retain(|(namespace, name), counts| {
            let deployment = table.namespaces.get(namespace).and_then(|space| space.deployments.get(name));
            deployment.into_iter().for_each(|deployment| counts.follow(deployment));
            deployment.is_some()
        });
    }

    /// Every deployment of the table with its counts, or one (namespace and name) with the times of its answers, too.
    pub fn stats(&self, table: &RoutingTable, of: Option<[&str; 2]>) -> Vec<DeploymentStats> {
        let counts = self.lock();
        let spaces = table.namespaces.iter();
        let deployments = spaces.flat_map(|(namespace, space)| {
            let asked = |name: &str| of.is_none_or(|of| of == [namespace.as_str(), name]);
            space.deployments.iter().filter(move |(name, _)| asked(name)).map(|(name, deployment)| {
                let counts = counts.get(&(namespace.clone(), name.clone()));
                let counters = counts.map(|counts| &counts.counters);
                let versions = counters.into_iter().flatten();
                let failed = |version: Option<&str>| {
                    let counter = counters.and_then(|counters| counters.get(version?));
                    counter.map_or(0, |counter| counter.failed_in_a_row())
                };
                let canary = deployment.canary.as_ref().and_then(|canary| canary.target.version.as_deref());
                let braked = fails_outright(failed(canary), failed(deployment.stable.version.as_deref()));
                DeploymentStats {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    revision: deployment.revision,
                    since: deployment.since,
                    rollout_id: deployment.rollout_id.clone(),
                    braked,
                    copies_cost_micros: counts.map_or(0, |counts| counts.spent.load(Ordering::Relaxed)),
                    versions: versions
                        .map(|(version, counter)| (version.clone(), counter.read(of.is_some())))
                        .collect(),
                }
            })
        });
        deployments.collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Deployment>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
