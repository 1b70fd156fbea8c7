//! What the gateways count while a canary is on trial.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use jiff::Timestamp;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use tokio::time::Instant;
use tracing::debug;

use super::super::Context;
use crate::{
    api::ModelDeployment,
    domain::{
        analysis::{Batch, Copies, Counted, Reading},
        rollout::{Spec, State},
    },
    ports::{DeploymentStats, GatewayStats},
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
    counted: Counted,
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
    /// What copies of requests cost, if every gateway said so.
    pub copies: Option<Copies>,
    /// Where the batch's counts end, if it has any.
    until: Option<Reading>,
}

impl Trials {
    /// Asks the gateways when it is time to. What one of them says of a brake counts at once; one that can't be asked adds
    /// nothing to the batch, and what it counted comes later.
    pub async fn look(&self, context: &Context, object: &ModelDeployment, spec: &Spec, state: &State) -> Look {
        let (Some(stable), Some(canary)) = (state.stable_version(), state.canary_version()) else {
            self.forget(&ObjectRef::from_obj(object));
            return Look::default();
        };
        if self.due_in(object, spec, state) > Some(Duration::ZERO) {
            return Look::default();
        }
        let Some(heard) = Heard::listen(context, object, spec, state).await else {
            return Look { braked: true, ..Look::default() };
        };
        let copies = Some(heard.copies).filter(|_| heard.unheard == 0);
        let Some(counted) = self.begin(object, state, &heard.reading) else {
            return Look { copies, ..Look::default() };
        };
        let batch = counted.batch(&heard.reading, stable, canary);
        let (mut batch, until) = if batch.is_enough() { (batch, Some(heard.reading)) } else { Default::default() };
        batch.unheard = heard.unheard;
        for query in spec.analysis.iter().flat_map(|analysis| &analysis.queries) {
            batch.values.insert(query.name.clone(), context.value(&query.about(canary, stable)).await);
        }
        (batch.rollout_id, batch.at) = (state.rollout_id.clone(), Timestamp::now());
        let says_something = until.is_some() || !batch.values.is_empty();
        Look { batch: Some(batch).filter(|_| says_something), braked: false, copies, until }
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
        if let (Some(batch), Some(until)) = (look.batch, look.until)
            && let Some(trial) = self.lock().get_mut(&ObjectRef::from_obj(object))
        {
            trial.counted.settle(until, batch.unheard);
        }
    }

    /// Forgets a deployment that has no canary any more.
    pub fn forget(&self, object: &ObjectRef<ModelDeployment>) {
        self.lock().remove(object);
    }

    /// Notes that it was looked, and who was met; returns what is in batches already, or begins the first one now.
    fn begin(&self, object: &ModelDeployment, state: &State, now: &Reading) -> Option<Counted> {
        let mut trials = self.lock();
        let asked = Instant::now();
        match trials.get_mut(&ObjectRef::from_obj(object)) {
            Some(known) if known.is_of(state) => {
                known.asked = asked;
                known.counted.meet(now);
                Some(known.counted.clone())
            }
            _ => {
                let mut counted = Counted::default();
                counted.meet(now);
                let (rollout_id, revision) = (state.rollout_id.clone(), state.revision);
                trials.insert(ObjectRef::from_obj(object), Trial { rollout_id, revision, asked, counted });
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectRef<ModelDeployment>, Trial>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the gateways said.
#[derive(Default)]
struct Heard {
    reading: Reading,
    copies: Copies,
    /// How many could not be asked.
    unheard: u32,
}

impl Heard {
    /// `None` as soon as one of them says that it stopped sending requests to the canary.
    async fn listen(context: &Context, object: &ModelDeployment, spec: &Spec, state: &State) -> Option<Self> {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let budget = spec.shadow.map_or(u64::MAX, |shadow| shadow.budget);
        let mut answers = context.gateways.stats(Some([&namespace, &name]));
        let mut heard = Self::default();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(gateway) if gateway.deployments.iter().any(|found| is_braked(found, state)) => return None,
                Ok(gateway) => heard.note(gateway, state, budget),
                Err(error) => {
                    debug!(%error, "a gateway can't be asked what it counted");
                    heard.unheard += 1;
                }
            }
        }
        Some(heard)
    }

    fn note(&mut self, gateway: GatewayStats, state: &State, budget: u64) {
        let of_rollout = gateway.deployments.iter().filter(|found| found.rollout_id == state.rollout_id);
        of_rollout.for_each(|found| self.copies.add(found.copies_cost_micros, budget));
        let versions = gateway.deployments.into_iter().flat_map(|counts| counts.versions).collect();
        self.reading.insert(gateway.instance, versions);
    }
}

fn is_braked(found: &DeploymentStats, state: &State) -> bool {
    found.braked && found.rollout_id == state.rollout_id && found.revision == state.revision
}
