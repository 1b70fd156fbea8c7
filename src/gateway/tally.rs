//! What this gateway counts: turns of each rollout's split, and what became of each version's attempts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    domain::{
        analysis::{self, Observed, Sketch},
        routing::{fails_outright, may_be_tried},
    },
    ports::DeploymentStats,
    routing_table::RoutingTable,
};

/// Namespace and name of a deployment.
type Key = (String, String);

/// One version's attempts.
#[derive(Debug, Default)]
pub struct Counter {
    attempts: AtomicU64,
    failures: AtomicU64,
    schema_checks: AtomicU64,
    schema_failures: AtomicU64,
    latency: Times,
    first_token: Times,
    token_time: Times,
    /// Attempts that failed since the last one that didn't.
    failed_in_a_row: AtomicU64,
    /// Whether anything was answered in the present rollout.
    is_proven: AtomicBool,
    /// Requests that wait for an answer of a version that has answered nothing yet.
    waiting: AtomicU64,
}

/// A request to a version that has answered nothing yet.
#[derive(Debug)]
pub struct Trial(Arc<Counter>);

impl Drop for Trial {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is counted of an attempt that the node answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answered {
    /// Whether it keeps to the schema that was asked for; nothing without one.
    pub keeps_schema: Option<bool>,
    /// From the request to the node to the end of its answer, without loading the model.
    pub latency: Duration,
    /// The same, to the first piece of a stream.
    pub first_token: Option<Duration>,
    /// The time for each token.
    pub token_time: Option<Duration>,
}

/// Durations, counted by size.
#[derive(Debug)]
struct Times(Box<[AtomicU32]>);

impl Default for Times {
    fn default() -> Self {
        Self((0..analysis::BUCKETS).map(|_| AtomicU32::new(0)).collect())
    }
}

impl Times {
    fn add(&self, duration: Duration) {
        if let Some(count) = self.0.get(analysis::bucket(duration)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(&self) -> Sketch {
        Sketch::new(self.0.iter().map(|count| count.load(Ordering::Relaxed).into()))
    }
}

impl Counter {
    /// An attempt that the node answered.
    pub fn answered(&self, answer: &Answered) {
        if let Some(keeps_schema) = answer.keeps_schema {
            self.schema_failures.fetch_add((!keeps_schema).into(), Ordering::Relaxed);
            self.schema_checks.fetch_add(1, Ordering::Relaxed);
        }
        self.latency.add(answer.latency);
        answer.first_token.iter().for_each(|time| self.first_token.add(*time));
        answer.token_time.iter().for_each(|time| self.token_time.add(*time));
        self.responded();
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// The node answered, if only that the caller is wrong.
    pub fn responded(&self) {
        self.failed_in_a_row.store(0, Ordering::Relaxed);
        self.is_proven.store(true, Ordering::Relaxed);
    }

    /// Whether the version may get one more request: any number once it has answered one in this rollout.
    pub fn may_be_tried(&self) -> bool {
        self.is_proven.load(Ordering::Relaxed)
            || may_be_tried(self.waiting.load(Ordering::Relaxed), self.failed_in_a_row())
    }

    /// The same for a request that is sent then: holds its place among those that wait, if it must. `None`: it may not.
    pub fn try_with(self: &Arc<Self>) -> Option<Option<Trial>> {
        if self.is_proven.load(Ordering::Relaxed) {
            return Some(None);
        }
        // Counted first: of many at once each sees the others.
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let trial = Trial(self.clone());
        may_be_tried(waiting, self.failed_in_a_row()).then_some(Some(trial))
    }

    /// An attempt that failed through the node's fault.
    pub fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.failed_in_a_row.fetch_add(1, Ordering::Relaxed);
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// A version that failed in an earlier rollout gets another chance.
    fn begin_rollout(&self) {
        self.failed_in_a_row.store(0, Ordering::Relaxed);
        self.is_proven.store(false, Ordering::Relaxed);
    }

    /// How many attempts failed since the last one that didn't.
    pub fn failed_in_a_row(&self) -> u64 {
        self.failed_in_a_row.load(Ordering::Relaxed)
    }

    fn read(&self, with_times: bool) -> Observed {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let times = |times: &Times| if with_times { times.read() } else { Sketch::default() };
        // The parts before the whole: a count that is under way makes no share over 1.
        let (failures, schema_failures) = (read(&self.failures), read(&self.schema_failures));
        Observed {
            failures,
            schema_failures,
            schema_checks: read(&self.schema_checks),
            latency: times(&self.latency),
            first_token: times(&self.first_token),
            token_time: times(&self.token_time),
            attempts: read(&self.attempts),
        }
    }
}

#[derive(Debug, Default)]
struct Deployment {
    /// By rollout.
    turns: HashMap<String, Arc<AtomicU64>>,
    /// By version.
    counters: BTreeMap<String, Arc<Counter>>,
    /// The rollout that failures in a row are counted for.
    rollout_id: String,
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

    /// Forgets deployments and rollouts that the table no longer has.
    pub fn keep(&self, table: &RoutingTable) {
        self.lock().retain(|(namespace, name), counts| {
            let deployment = table.namespaces.get(namespace).and_then(|space| space.deployments.get(name));
            if let Some(deployment) = deployment.filter(|deployment| deployment.rollout_id != counts.rollout_id) {
                counts.rollout_id.clone_from(&deployment.rollout_id);
                counts.counters.values().for_each(|counter| counter.begin_rollout());
            }
            counts.turns.retain(|rollout, _| deployment.is_some_and(|deployment| deployment.rollout_id == *rollout));
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
                let counters = counts.get(&(namespace.clone(), name.clone())).map(|counts| &counts.counters);
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
