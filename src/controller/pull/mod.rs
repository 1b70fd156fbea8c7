//! `ModelPull`: makes nodes hold a model.

mod act;
mod changes;
mod cleanup;
mod grants;
mod job;
mod metrics;
mod observe;
mod plan;
mod pulling;
mod refresh;
mod status;
mod transitions;

pub use changes::{is_of_models_only, of_node, words_of_node, words_of_pull};
pub use grants::{Addresses, Grants};
pub use metrics::Metrics;
pub use observe::is_wanted;
pub use pulling::Pulling;
use status::Due;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use jiff::Timestamp;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;

use super::{
    Context, Error,
    driver::{self, Reconciler, references_of_change},
    written::Written,
};
use crate::{
    api::{DeletionPolicy, ModelPull, ModelPullStatus, OllamaNode, PULL_FINALIZER},
    cluster::{self, Changed, Precondition},
    domain::pull::Phase,
};

/// When an object is looked at that the watch should have brought after a write, and hasn't yet.
const UNTIL_SEEN: Duration = Duration::from_secs(1);
/// Enough to keep an API server busy, and few enough that nodes, which pulls wait for, are not held up.
const WRITES_AT_ONCE: usize = 16;
/// Of statuses on the way to Ready: when the API server is what limits, most of them need not be written at all.
const INTERIM_WRITES_AT_ONCE: usize = 4;
/// An interim status that found no turn is decided again after about this time.
const UNTIL_NEXT_TRY: Duration = Duration::from_secs(2);

struct Pulls {
    context: Arc<Context>,
    written: Written<ModelPull>,
    turns: Semaphore,
    interim_turns: Semaphore,
}

/// Runs until `stop`.
///
/// # Errors
/// When a watch ends that must not.
pub async fn run(context: Arc<Context>, stop: CancellationToken) -> Result<(), String> {
    let pulls = context.pulls.clone();
    let by_node = {
        let pulls = pulls.clone();
        move |change: &Changed<OllamaNode>| changes::concerned(&pulls, change)
    };
    let nodes = references_of_change(&context.nodes, pulls.clone(), by_node);
    let pokes = BroadcastStream::new(context.pokes.pulls.subscribe()).filter_map(|poke| async { poke.ok() }).boxed();
    context.nodes.ready().await?;
    let meter = context.meters.of::<ModelPull>();
    let queue = job::run_queue(context.clone(), stop.clone());
    let reconciler = Arc::new(Pulls {
        context,
        written: Written::default(),
        turns: Semaphore::new(WRITES_AT_ONCE),
        interim_turns: Semaphore::new(INTERIM_WRITES_AT_ONCE),
    });
    let (ended, ()) = tokio::join!(driver::run(reconciler, pulls, vec![nodes, pokes], meter, stop), queue);
    ended
}

impl Reconciler for Pulls {
    type Kind = ModelPull;

    /// Deciding is quick, and nothing waits for others but the writes, which have turns of their own.
    const AT_ONCE: u16 = 0;

    fn reconcile(self: Arc<Self>, pull: Arc<ModelPull>) -> BoxFuture<'static, Result<Option<Duration>, Error>> {
        async move {
            let key = ObjectRef::from_obj(&*pull);
            let has_finalizer = pull.finalizers().iter().any(|name| name == PULL_FINALIZER);
            let deletes = pull.spec.deletion_policy == DeletionPolicy::Delete;
            let api = cluster::api(&self.context.client, pull.namespace().as_deref());
            if pull.metadata.deletion_timestamp.is_some() {
                self.forget(&key);
                if !has_finalizer {
                    return Ok(None);
                }
                let wait = if deletes { cleanup::clean(&self.context, &pull).await } else { None };
                if wait.is_none() {
                    let _turn = self.turns.acquire().await;
                    cluster::set_finalizer(&api, &*pull, PULL_FINALIZER, false).await?;
                }
                return Ok(wait);
            }
            if has_finalizer != deletes {
                let _turn = self.turns.acquire().await;
                cluster::set_finalizer(&api, &*pull, PULL_FINALIZER, deletes).await?;
                return Ok(None);
            }
            self.settle(&key, pull).await
        }
        .boxed()
    }

    fn forget(&self, pull: &ObjectRef<ModelPull>) {
        self.context.pulling.release(pull);
        self.context.grants.iter().for_each(|grants| grants.leave(&self.context, pull, None));
        self.written.forget(pull);
    }
}

/// What a look at an object came to.
struct Look {
    status: ModelPullStatus,
    /// When to look again if nothing happens before.
    wake_after: Option<Duration>,
}

impl Pulls {
    /// Looks, and writes a status that is due; when to look again.
    async fn settle(&self, key: &ObjectRef<ModelPull>, mut pull: Arc<ModelPull>) -> Result<Option<Duration>, Error> {
        let mut turn = None;
        loop {
            let look = self.look(key, &pull);
            let wait = match self.due(key, &pull, &look.status) {
                Due::Never => None,
                Due::After(wait) => Some(wait),
                Due::Now if turn.is_none() && look.status.phase == Phase::Ready => {
                    turn = self.turns.acquire().await.ok();
                    // While it waited things went on: what is written is what is true now.
                    match self.context.pulls.store().get(key) {
                        Some(latest) if latest.metadata.deletion_timestamp.is_none() => pull = latest,
                        _ => return Ok(Some(Duration::ZERO)),
                    }
                    continue;
                }
                Due::Now => {
                    let interim = turn.is_none().then(|| self.interim_turns.try_acquire());
                    match interim {
                        Some(Err(_)) => Some(UNTIL_NEXT_TRY.mul_f64(0.5 + rand::random::<f64>())),
                        Some(Ok(_)) | None => {
                            self.write(key, &pull, &look.status).await?;
                            None
                        }
                    }
                }
            };
            return Ok([wait, look.wake_after].into_iter().flatten().min());
        }
    }

    /// Sees, decides and acts.
    fn look(&self, key: &ObjectRef<ModelPull>, pull: &ModelPull) -> Look {
        let now = Timestamp::now();
        let wanted = pull.refresh_wanted().filter(|_| pull.spec.digest.is_none());
        let is_asked_anew = self.context.pulling.note_refresh(key, wanted, now);
        let observed_generation = pull.status.as_ref().and_then(|status| status.observed_generation);
        if is_asked_anew || observed_generation != pull.metadata.generation {
            self.context.pulling.retry_now(key, now);
            self.context.grants.iter().for_each(|grants| grants.retry_now(key, now));
        }
        let observed = observe::observe(&self.context, pull, now);
        let mut plan = plan::plan(pull, &observed, now);
        act::act(&self.context, pull, &mut plan, &observed);
        let status = status::status(pull, &plan, &observed, now);
        let times_out_after = status::times_out_after(pull, &status, now);
        Look { wake_after: [plan.wake_after, times_out_after].into_iter().flatten().min(), status }
    }

    /// Whether the status is to be written: moving counters only on thresholds.
    fn due(&self, key: &ObjectRef<ModelPull>, pull: &ModelPull, status: &ModelPullStatus) -> Due {
        if self.written.is_behind(pull) {
            return Due::After(UNTIL_SEEN);
        }
        status::is_due(pull.status.as_ref(), status, self.written.since(key))
    }

    async fn write(
        &self,
        key: &ObjectRef<ModelPull>,
        pull: &Arc<ModelPull>,
        status: &ModelPullStatus,
    ) -> Result<(), Error> {
        let api = cluster::api(&self.context.client, pull.namespace().as_deref());
        let version = cluster::apply_status(&api, &**pull, status, Precondition::None).await?;
        self.written.note(key.clone(), version.as_deref());
        let events = transitions::transitions(pull, status);
        if !events.is_empty() {
            let (context, pull) = (self.context.clone(), pull.clone());
            // Statuses don't wait for events.
            self.context.jobs.start(CancellationToken::new(), async move {
                for told in events {
                    context.events.publish(&*pull, &told.reason, &told.message, told.warning).await;
                }
            });
        }
        Ok(())
    }
}
