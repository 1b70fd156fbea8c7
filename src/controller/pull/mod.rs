//! `ModelPull`: makes nodes hold a model.

mod act;
mod observe;
mod plan;
mod status;

pub use act::Pulling;

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
    api::{ModelPull, ModelPullStatus, OllamaNode},
    cluster::{self, Precondition},
    domain::pull::elapsed,
};

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
    let same_namespace = {
        let pulls = pulls.clone();
        move |node: &OllamaNode| {
            let pulls = pulls.list(&node.namespace().unwrap_or_default());
            pulls.iter().map(|pull| ObjectRef::from_obj(&**pull)).collect()
        }
    };
    let nodes = references(&context.nodes, pulls.clone(), same_namespace);
    let pokes = BroadcastStream::new(context.pokes.pulls.subscribe()).filter_map(|poke| async { poke.ok() }).boxed();
    context.nodes.ready().await?;
    let meter = context.meters.of::<ModelPull>();
    let reconciler = Arc::new(Pulls { context, written: Mutex::default() });
    driver::run(reconciler, pulls, vec![nodes, pokes], meter, stop).await
}

impl Reconciler for Pulls {
    type Kind = ModelPull;

    fn reconcile(self: Arc<Self>, pull: Arc<ModelPull>) -> BoxFuture<'static, Result<Option<Duration>, Error>> {
        async move {
            let key = ObjectRef::from_obj(&*pull);
            if pull.metadata.deletion_timestamp.is_some() {
                self.forget(&key);
                return Ok(None);
            }
            let now = Timestamp::now();
            let observed = pull.status.as_ref().and_then(|status| status.observed_generation);
            if observed != pull.metadata.generation {
                self.context.pulling.retry_now(&key, now);
            }
            let seen = observe::observe(&self.context, &pull);
            let plan = plan::plan(&pull.spec, &seen, now);
            let status = status::status(&pull, &plan, &seen, now);
            act::act(&self.context, &pull, &plan, &seen);
            let wait = self.write_if_due(&key, &pull, &status, now).await?;
            Ok([wait, plan.wake_after, status::times_out_after(&pull, &status, now)].into_iter().flatten().min())
        }
        .boxed()
    }

    fn forget(&self, pull: &ObjectRef<ModelPull>) {
        self.context.pulling.release(pull);
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
                Ok(None)
            }
        }
    }
}
