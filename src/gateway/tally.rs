//! What this gateway counts: turns of each rollout's split, and what became of each version's attempts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    ports::{DeploymentStats, VersionStats},
    routing_table::RoutingTable,
};

/// Namespace and name of a deployment.
type Key = (String, String);

/// One version's attempts.
#[derive(Debug, Default)]
pub struct Counter {
    attempts: AtomicU64,
    failures: AtomicU64,
    schema_failures: AtomicU64,
}

impl Counter {
    /// An attempt that the node answered, with or without keeping to the schema that was asked for.
    pub fn succeeded(&self, is_schema_failure: bool) {
        self.schema_failures.fetch_add(is_schema_failure.into(), Ordering::Relaxed);
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt that failed through the node's fault.
    pub fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> VersionStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // The parts before the whole: a count that is under way makes no share over 1.
        let (failures, schema_failures) = (read(&self.failures), read(&self.schema_failures));
        VersionStats { attempts: read(&self.attempts), failures, schema_failures }
    }
}

#[derive(Debug, Default)]
struct Deployment {
    /// By rollout.
    turns: HashMap<String, Arc<AtomicU64>>,
    /// By version.
    counters: BTreeMap<String, Arc<Counter>>,
}

/// The counts, since the gateway started.
#[derive(Debug, Default)]
pub struct Tally(Mutex<HashMap<Key, Deployment>>);

impl Tally {
    /// Where those requests of a rollout are counted that no session decides.
    pub fn turns(&self, namespace: &str, deployment: &str, rollout_id: &str) -> Arc<AtomicU64> {
        let mut counts = self.lock();
        let turns = &mut counts.entry((namespace.into(), deployment.into())).or_default().turns;
        turns.entry(rollout_id.into()).or_default().clone()
    }

    /// Where a version's attempts are counted.
    pub fn counter(&self, namespace: &str, deployment: &str, version: &str) -> Arc<Counter> {
        let mut counts = self.lock();
        let counters = &mut counts.entry((namespace.into(), deployment.into())).or_default().counters;
        counters.entry(version.into()).or_default().clone()
    }

    /// Forgets deployments and rollouts that the table no longer has.
    pub fn keep(&self, table: &RoutingTable) {
        self.lock().retain(|(namespace, name), counts| {
            let deployment = table.namespaces.get(namespace).and_then(|space| space.deployments.get(name));
            counts.turns.retain(|rollout, _| deployment.is_some_and(|deployment| deployment.rollout_id == *rollout));
            deployment.is_some()
        });
    }

    /// Every deployment of the table with its counts.
    pub fn stats(&self, table: &RoutingTable) -> Vec<DeploymentStats> {
        let counts = self.lock();
        let spaces = table.namespaces.iter();
        let deployments = spaces.flat_map(|(namespace, space)| {
            space.deployments.iter().map(|(name, deployment)| {
                let counters = counts.get(&(namespace.clone(), name.clone())).map(|counts| &counts.counters);
                DeploymentStats {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    revision: deployment.revision,
                    since: deployment.since,
                    rollout_id: deployment.rollout_id.clone(),
                    versions: counters.into_iter().flatten().map(|(v, counter)| (v.clone(), counter.read())).collect(),
                }
            })
        });
        deployments.collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Deployment>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
