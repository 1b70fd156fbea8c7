//! What the gateways count while a canary is on trial.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use tokio::time::Instant;

use super::super::Context;
use super::observe;
use crate::{
    api::ModelDeployment,
    domain::{
        analysis::{Batch, Reading},
        rollout::{Spec, State},
    },
    ports::GatewayStats,
};

/// How often gateways are asked whether they stopped sending requests to a canary that nobody compares.
const ASK_ANYWAY: Duration = Duration::from_secs(10);

/// What was counted when the last batch ended, by deployment. A controller that starts anew begins a new batch; what
/// earlier ones showed is in the status.
#[derive(Default)]
pub struct Trials(Mutex<HashMap<ObjectRef<ModelDeployment>, Trial>>);

struct Trial {
    rollout_id: String,
    /// A batch is of one step, and each step has a revision.
    revision: i64,
    asked: Instant,
    since: Reading,
}

impl Trial {
    fn is_of(&self, state: &State) -> bool {
        self.rollout_id == state.rollout_id && self.revision == state.revision
    }
}

/// What was found.
#[derive(Default)]
pub struct Look {
    /// A batch, when enough happened since the one before.
    pub batch: Option<Batch>,
    /// A gateway stopped sending requests to the canary, which failed outright.
    pub braked: bool,
    until: Reading,
}

impl Trials {
    /// Asks the gateways when it is time to.
    pub async fn look(&self, context: &Context, object: &ModelDeployment, spec: &Spec, state: &State) -> Look {
        let (Some(stable), Some(canary)) = (state.stable_version(), state.canary_version()) else {
            self.forget(&ObjectRef::from_obj(object));
            return Look::default();
        };
        if self.due_in(object, spec, state) > Some(Duration::ZERO) {
            return Look::default();
        }
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let Some(stats) = observe::ask(context, Some([&namespace, &name])).await else { return Look::default() };
        let braked = stats.iter().flat_map(|gateway| &gateway.deployments).any(|deployment| {
            deployment.braked && deployment.rollout_id == state.rollout_id && deployment.revision == state.revision
        });
        let until = reading(stats);
        let Some(since) = self.begin(object, state, &until) else { return Look { braked, ..Look::default() } };
        let mut batch = Batch::between(&since, &until, stable, canary);
        let until = if batch.is_enough() { until } else { since };
        if !batch.is_enough() {
            batch = Batch::default();
        }
        for query in spec.analysis.iter().flat_map(|analysis| &analysis.queries) {
            batch.values.insert(query.name.clone(), context.value(&query.about(canary, stable)).await);
        }
        (batch.rollout_id, batch.at) = (state.rollout_id.clone(), Timestamp::now());
        let says_something = batch.is_enough() || !batch.values.is_empty();
        Look { batch: Some(batch).filter(|_| says_something), braked, until }
    }

    /// When to look again; `None` without a canary.
    pub fn due_in(&self, object: &ModelDeployment, spec: &Spec, state: &State) -> Option<Duration> {
        state.canary.as_ref()?;
        let interval = spec.analysis.as_ref().map_or(ASK_ANYWAY, |analysis| analysis.interval);
        let trials = self.lock();
        let known = trials.get(&ObjectRef::from_obj(object)).filter(|known| known.is_of(state));
        Some(known.map_or(Duration::ZERO, |known| interval.saturating_sub(known.asked.elapsed())))
    }

    /// The batch of this look is in the status: the next one begins where it ended.
    pub fn used(&self, object: &ModelDeployment, look: Look) {
        if look.batch.is_some()
            && let Some(trial) = self.lock().get_mut(&ObjectRef::from_obj(object))
        {
            trial.since = look.until;
        }
    }

    /// Forgets a deployment that has no canary any more.
    pub fn forget(&self, object: &ObjectRef<ModelDeployment>) {
        self.lock().remove(object);
    }

    /// Notes that it was looked; returns where the present batch began, or begins it now.
    fn begin(&self, object: &ModelDeployment, state: &State, now: &Reading) -> Option<Reading> {
        let mut trials = self.lock();
        let asked = Instant::now();
        match trials.get_mut(&ObjectRef::from_obj(object)) {
            Some(known) if known.is_of(state) => {
                known.asked = asked;
                Some(known.since.clone())
            }
            _ => {
                let (rollout_id, revision) = (state.rollout_id.clone(), state.revision);
                let trial = Trial { rollout_id, revision, asked, since: now.clone() };
                trials.insert(ObjectRef::from_obj(object), trial);
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectRef<ModelDeployment>, Trial>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reading(gateways: Vec<GatewayStats>) -> Reading {
    let one = |gateway: GatewayStats| {
        let versions: BTreeMap<_, _> = gateway.deployments.into_iter().flat_map(|counts| counts.versions).collect();
        (gateway.instance, versions)
    };
    gateways.into_iter().map(one).collect()
}
