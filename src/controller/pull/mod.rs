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
mod status;
mod transitions;

pub use grants::Grants;
pub use metrics::Metrics;
pub use observe::is_wanted;
pub use pulling::Pulling;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use jiff::Timestamp;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;

use super::{
    Context, Error,
    driver::{self, Reconciler, references},
};
use crate::{
    api::{DeletionPolicy, ModelPull, ModelPullStatus},
    cluster::{self, Precondition},
    domain::pull::elapsed,
};

/// On every pull whose model goes with it.
const FINALIZER: &str = "drover.dev/pull";

struct Pulls {
    context: Arc<Context>,
    written: Mutex<HashMap<ObjectRef<ModelPull>, Timestamp>>,
}

/// Runs until `stop`.
///
/// # Errors
/// When a watch ends that must not.
pub async fn run(context: Arc<Context>, stop: CancellationToken) -> Result<(), String> {
    let pulls = context.pulls.clone();
    let nodes = references(&context.nodes, pulls.clone(), changes::concerned(&context.nodes, &pulls));
    let pokes = BroadcastStream::new(context.pokes.pulls.subscribe()).filter_map(|poke| async { poke.ok() }).boxed();
    context.nodes.ready().await?;
    let meter = context.meters.of::<ModelPull>();
    let queue = job::run_queue(context.clone(), stop.clone());
    let reconciler = Arc::new(Pulls { context, written: Mutex::default() });
    let (ended, ()) = tokio::join!(driver::run(reconciler, pulls, vec![nodes, pokes], meter, stop), queue);
    ended
}

impl Reconciler for Pulls {
    type Kind = ModelPull;

    fn reconcile(self: Arc<Self>, pull: Arc<ModelPull>) -> BoxFuture<'static, Result<Option<Duration>, Error>> {
        async move {
            let key = ObjectRef::from_obj(&*pull);
            let has_finalizer = pull.finalizers().iter().any(|name| name == FINALIZER);
            let deletes = pull.spec.deletion_policy == DeletionPolicy::Delete;
            let api = cluster::api(&self.context.client, pull.namespace().as_deref());
            if pull.metadata.deletion_timestamp.is_some() {
                self.forget(&key);
                if !has_finalizer {
                    return Ok(None);
                }
                let wait = if deletes { cleanup::clean(&self.context, &pull).await } else { None };
                if wait.is_none() {
                    cluster::set_finalizer(&api, &*pull, FINALIZER, false).await?;
                }
                return Ok(wait);
            }
            if has_finalizer != deletes {
                cluster::set_finalizer(&api, &*pull, FINALIZER, deletes).await?;
                return Ok(None);
            }
            let now = Timestamp::now();
            let observed_generation = pull.status.as_ref().and_then(|status| status.observed_generation);
            if observed_generation != pull.metadata.generation {
                self.context.pulling.retry_now(&key, now);
                self.context.grants.iter().for_each(|grants| grants.retry_now(&key, now));
            }
            let observed = observe::observe(&self.context, &pull, now);
            let mut plan = plan::plan(&pull, &observed, now);
            act::act(&self.context, &pull, &mut plan, &observed);
            let status = status::status(&pull, &plan, &observed, now);
            let wait = self.write_if_due(&key, &pull, &status, now).await?;
            Ok([wait, plan.wake_after, status::times_out_after(&pull, &status, now)].into_iter().flatten().min())
        }
        .boxed()
    }

    fn forget(&self, pull: &ObjectRef<ModelPull>) {
        self.context.pulling.release(pull);
        self.context.grants.iter().for_each(|grants| grants.leave(&self.context, pull, None));
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(pull);
    }
}

impl Pulls {
    /// Writes a changed status, but moving counters only on thresholds; says when to try again if it was too early.
    async fn write_if_due(
        &self,
        key: &ObjectRef<ModelPull>,
        pull: &ModelPull,
        status: &ModelPullStatus,
        now: Timestamp,
    ) -> Result<Option<Duration>, Error> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied();
        let since = written.map_or(Duration::MAX, |written| elapsed(written, now));
        match status::is_due(pull.status.as_ref(), status, since) {
            status::Due::Never => Ok(None),
            status::Due::After(wait) => Ok(Some(wait)),
            status::Due::Now => {
                let api = cluster::api(&self.context.client, pull.namespace().as_deref());
                cluster::apply_status(&api, pull, status, Precondition::None).await?;
                self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), now);
                for told in transitions::transitions(pull, status) {
                    self.context.events.publish(pull, &told.reason, &told.message, told.warning).await;
                }
                Ok(None)
            }
        }
    }
}
