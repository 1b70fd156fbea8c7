//! `ModelDeployment`: decides which version gets how many requests. The gateways follow the status.

pub mod authors;
mod embeds;
mod names;
mod observe;
mod room;
mod runners;
mod snapshots;
mod status;
mod trials;
mod warm;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{self, BoxFuture},
};
use jiff::Timestamp;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    Context, Error,
    driver::{self, Reconciler, references},
};
use crate::{
    api::{ModelDeployment, ModelDeploymentStatus, ModelVersion, OllamaNode, Provider},
    cluster::{self, Precondition},
    domain::{
        pace::Pace,
        registry::moves,
        rollout::{self, Authors},
    },
};

/// How often the gateways are asked whether a rollback has arrived, at first and later on.
const ASK_OFTEN: Duration = Duration::from_millis(100);
const ASK_SELDOM: Duration = Duration::from_secs(5);
const OFTEN_FOR: Duration = Duration::from_secs(60);

/// One rollout goes up in so long. Each step is half a dozen writes (the status, events, both versions), and the API serves
/// others, too; rollbacks wait for nobody.
const STEP_EVERY: Duration = Duration::from_millis(125);

struct Deployments {
    context: Arc<Context>,
    pace: Mutex<Pace<ObjectRef<ModelDeployment>>>,
    started: Instant,
    warm: warm::Warm,
    trials: trials::Trials,
}

/// Runs until `stop`.
///
/// # Errors
/// When a watch ends that must not.
pub async fn run(context: Arc<Context>, stop: CancellationToken) -> Result<(), String> {
    let deployments = context.deployments.clone();
    let (by_node, by_version, by_rival) = (deployments.clone(), deployments.clone(), deployments.clone());
    let by_provider = deployments.clone();
    let versions = context.versions.clone();
    let triggers = vec![
        references(&deployments, deployments.clone(), move |changed: &ModelDeployment| {
            let others = by_rival.list(&changed.namespace().unwrap_or_default());
            let same = others.iter().filter(|other| other.spec.model == changed.spec.model);
            let neighbours = runners::neighbours(&versions, &others, changed);
            same.map(|other| ObjectRef::from_obj(&**other)).chain(neighbours).collect()
        }),
        references(&context.nodes, deployments.clone(), move |node: &OllamaNode| {
            let deployments = by_node.list(&node.namespace().unwrap_or_default());
            deployments.iter().map(|deployment| ObjectRef::from_obj(&**deployment)).collect()
        }),
        references(&context.providers, deployments.clone(), move |provider: &Provider| {
            let deployments = by_provider.list(&provider.namespace().unwrap_or_default());
            deployments.iter().map(|deployment| ObjectRef::from_obj(&**deployment)).collect()
        }),
        references(&context.versions, deployments.clone(), move |version: &ModelVersion| {
            let deployments = by_version.list(&version.namespace().unwrap_or_default());
            let same = deployments.iter().filter(|deployment| deployment.spec.model == version.spec.model);
            same.map(|deployment| ObjectRef::from_obj(&**deployment)).collect()
        }),
        names::of_same_name(&context.chains, &deployments),
        names::of_same_name(&context.profiles, &deployments),
        names::of_same_name(&context.workers, &deployments),
    ];
    context.nodes.ready().await?;
    context.versions.ready().await?;
    context.providers.ready().await?;
    let meter = context.meters.of::<ModelDeployment>();
    let reconciler = Arc::new(Deployments {
        context,
        pace: Mutex::new(Pace::new(STEP_EVERY)),
        started: Instant::now(),
        warm: warm::Warm::default(),
        trials: trials::Trials::default(),
    });
    driver::run(reconciler, deployments, triggers, meter, stop).await
}

impl Reconciler for Deployments {
    type Kind = ModelDeployment;

    fn reconcile(self: Arc<Self>, object: Arc<ModelDeployment>) -> BoxFuture<'static, Result<Option<Duration>, Error>> {
        async move {
            if object.metadata.deletion_timestamp.is_some() {
                return Ok(None);
            }
            let earlier = object.status.clone().unwrap_or_default();
            if let Some(rival) = observe::rival(&self.context, &object) {
                let status = status::refused(&object, &rival, Timestamp::now());
                self.write(&object, &status).await?;
                return Ok(None);
            }
            let mut spec = observe::spec(&object);
            let note = embeds::skip_steps(&self.context, &object, &earlier.rollout, &mut spec);
            let look = self.trials.look(&self.context, &object, &spec, &earlier.rollout).await;
            let mut seen = observe::observe(&self.context, &object, &earlier.rollout).await;
            let room = room::check(&self.context, &object, &earlier.rollout, &spec, &mut seen.versions);
            let loading = self.warm.hold_back(&self.context, &object, &earlier.rollout, &mut seen.versions);
            let now = Timestamp::now();
            let mut input = rollout::Input {
                spec: &spec,
                state: &earlier.rollout,
                versions: &seen.versions,
                commands: &observe::commands(&object),
                authors: &Authors::default(),
                served: seen.served.as_deref(),
                batch: look.batch.as_ref(),
                braked: look.braked,
                copies: look.copies,
                now,
            };
            let mut decision = rollout::plan(&input);
            if decision.was_asked_for()
                && let Some(known) = observe::who(&self.context, &object).await
            {
                input.authors = &known;
                decision = rollout::plan(&input);
            }
            if decision.goes_up_from(&earlier.rollout)
                && let Some(wait) = self.pace().wait(&ObjectRef::from_obj(&*object), self.started.elapsed())
            {
                let look_again = self.trials.due_in(&object, &spec, &earlier.rollout);
                return Ok([Some(wait), look_again].into_iter().flatten().min());
            }
            decision.findings.extend(note.into_iter().chain(room).chain(names::clash(&self.context, &object)));
            decision.findings.extend(runners::check(&self.context, &object, &decision.state));
            let status = status::status(&object, &decision, now);
            let keep = async {
                if moves(&earlier.rollout, &status.rollout) {
                    snapshots::keep(&self.context, &object, &earlier.rollout, now).await;
                }
            };
            let written = if decision.goes_up_from(&earlier.rollout) {
                keep.await;
                self.write(&object, &status).await
            } else {
                // Nothing that may be a rollback waits for its snapshot.
                future::join(keep, self.write(&object, &status)).await.1
            };
            if written? {
                self.announce(&object, &decision.notices).await;
            }
            self.trials.used(&object, look);
            self.warm.load_missing(&self.context, &object, &status.rollout);
            let ask_again = status::ask_again_after(&status, now, [ASK_OFTEN, ASK_SELDOM], OFTEN_FOR);
            let look_again = self.trials.due_in(&object, &spec, &status.rollout);
            Ok([decision.wake_after, ask_again, look_again, loading].into_iter().flatten().min())
        }
        .boxed()
    }

    fn forget(&self, object: &ObjectRef<ModelDeployment>) {
        self.pace().forget(object);
        self.warm.forget(object);
        self.trials.forget(object);
    }
}

impl Deployments {
    fn pace(&self) -> MutexGuard<'_, Pace<ObjectRef<ModelDeployment>>> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a changed status; a decision made on an outdated object is refused by the API and made again.
    async fn write(&self, object: &ModelDeployment, status: &ModelDeploymentStatus) -> Result<bool, Error> {
        if object.status.as_ref() == Some(status) {
            return Ok(false);
        }
        let api = cluster::api(&self.context.client, object.namespace().as_deref());
        cluster::apply_status(&api, object, status, Precondition::SameVersion).await?;
        Ok(true)
    }

    async fn announce(&self, object: &ModelDeployment, notices: &[rollout::Notice]) {
        for notice in notices {
            info!(deployment = %object.name_any(), reason = notice.reason, "{}", notice.message);
            self.context.events.publish(object, notice.reason, &notice.message, notice.is_warning()).await;
        }
    }
}
