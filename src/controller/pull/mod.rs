//! `ModelPull`: makes nodes hold a model.

mod act;
mod observe;
mod plan;
mod status;

pub use act::Pulling;
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
    selection,
    written::Written,
};
use crate::{
    api::{ModelPull, ModelPullStatus, OllamaNode},
    cluster::{self, Changed, Precondition},
};

/// When an object is looked at that the watch should have brought after a write, and hasn't yet.
const UNTIL_SEEN: Duration = Duration::from_secs(1);
/// Enough to keep an API server busy, and few enough that nodes, which pulls wait for, are not held up.
const WRITES_AT_ONCE: usize = 16;

struct Pulls {
    context: Arc<Context>,
    written: Written<ModelPull>,
    turns: Semaphore,
}

/// Runs until `stop`.
///
/// # Errors
/// When a watch ends that must not.
pub async fn run(context: Arc<Context>, stop: CancellationToken) -> Result<(), String> {
    let pulls = context.pulls.clone();
    let by_node = {
        let pulls = pulls.clone();
        move |change: &Changed<OllamaNode>| selection::pulls(&pulls, change)
    };
    let nodes = references_of_change(&context.nodes, pulls.clone(), by_node);
    let pokes = BroadcastStream::new(context.pokes.pulls.subscribe()).filter_map(|poke| async { poke.ok() }).boxed();
    context.nodes.ready().await?;
    let reconciler = Arc::new(Pulls { context, written: Written::default(), turns: Semaphore::new(WRITES_AT_ONCE) });
    driver::run(reconciler, pulls, vec![nodes, pokes], stop).await
}

impl Reconciler for Pulls {
    type Kind = ModelPull;

    /// Deciding is quick, and nothing waits for others but the writes, which have turns of their own.
    const AT_ONCE: u16 = 0;

    fn reconcile(self: Arc<Self>, pull: Arc<ModelPull>) -> BoxFuture<'static, Result<Option<Duration>, Error>> {
        async move {
            let key = ObjectRef::from_obj(&*pull);
            let (mut pull, mut turn) = (pull, None);
            loop {
                let Some(look) = self.look(&key, &pull) else { return Ok(None) };
                let wait = match self.due(&key, &pull, &look.status) {
                    Due::Never => None,
                    Due::After(wait) => Some(wait),
                    Due::Now => {
                        turn = turn.or_else(|| self.turns.try_acquire().ok());
                        if turn.is_none() {
                            // While it waits for its turn things go on: what is written is what is true then.
                            turn = self.turns.acquire().await.ok();
                            let Some(latest) = self.context.pulls.store().get(&key) else { return Ok(None) };
                            pull = latest;
                            continue;
                        }
                        self.write(&key, &pull, &look.status).await?;
                        None
                    }
                };
                return Ok([wait, look.wake_after].into_iter().flatten().min());
            }
        }
        .boxed()
    }

    fn forget(&self, pull: &ObjectRef<ModelPull>) {
        self.context.pulling.release(pull);
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
    /// Sees, decides and acts; `None` when nothing is left to do.
    fn look(&self, key: &ObjectRef<ModelPull>, pull: &ModelPull) -> Option<Look> {
        if pull.metadata.deletion_timestamp.is_some() {
            self.forget(key);
            return None;
        }
        let now = Timestamp::now();
        let observed = pull.status.as_ref().and_then(|status| status.observed_generation);
        if observed != pull.metadata.generation {
            self.context.pulling.retry_now(key, now);
        }
        let seen = observe::observe(&self.context, pull);
        let plan = plan::plan(&pull.spec, &seen, now);
        let status = status::status(pull, &plan, &seen, now);
        act::act(&self.context, pull, &plan, &seen);
        let times_out_after = status::times_out_after(pull, &status, now);
        Some(Look { wake_after: [plan.wake_after, times_out_after].into_iter().flatten().min(), status })
    }

    /// Whether the status is to be written: moving counters only on thresholds.
    fn due(&self, key: &ObjectRef<ModelPull>, pull: &ModelPull, status: &ModelPullStatus) -> Due {
        if self.written.is_behind(pull) {
            return Due::After(UNTIL_SEEN);
        }
        status::is_due(pull.status.as_ref(), status, self.written.since(key))
    }

    async fn write(&self, key: &ObjectRef<ModelPull>, pull: &ModelPull, status: &ModelPullStatus) -> Result<(), Error> {
        let api = cluster::api(&self.context.client, pull.namespace().as_deref());
        let version = cluster::apply_status(&api, pull, status, Precondition::None).await?;
        self.written.note(key.clone(), version.as_deref());
        Ok(())
    }
}
