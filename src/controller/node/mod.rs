//! `OllamaNode`: looks at each node regularly and reports what it finds.

mod observe;
mod orphans;
mod status;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use jiff::Timestamp;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;

use super::{
    Context, Error,
    driver::{self, Reconciler},
    pull::{self, is_wanted},
    written::Written,
};
use crate::{
    api::{OllamaNode, OllamaNodeStatus},
    cluster::{self, Changed, Precondition},
    domain::model_name::ModelName,
};

/// Probes are spread by a tenth of the interval, so that a fleet isn't asked all at once.
const JITTER: f64 = 0.1;

/// A node that changed a moment ago is looked at after this again, however much goes on there meanwhile.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);

/// So often a node's new models are written while pulls follow each other there.
const WHILE_PULLS_FOLLOW: Duration = Duration::from_secs(10);

struct Nodes {
    context: Arc<Context>,
    observer: observe::Observer,
    written: Written<OllamaNode>,
}

/// Runs until `stop`.
///
/// # Errors
/// When a watch ends that must not.
pub async fn run(context: Arc<Context>, stop: CancellationToken) -> Result<(), String> {
    let pokes = BroadcastStream::new(context.pokes.nodes.subscribe()).filter_map(|poke| async { poke.ok() }).boxed();
    let watched = context.nodes.clone();
    let observer = observe::Observer::new(context.ollama.clone());
    let meter = context.meters.of::<OllamaNode>();
    let nodes = Nodes { context, observer, written: Written::default() };
    driver::run(Arc::new(nodes), watched, vec![pokes], meter, stop).await
}

impl Reconciler for Nodes {
    type Kind = OllamaNode;

    fn reconcile(self: Arc<Self>, node: Arc<OllamaNode>) -> BoxFuture<'static, Result<Option<Duration>, Error>> {
        async move {
            let key = ObjectRef::from_obj(&*node);
            if let Some(wait) = BETWEEN_WRITES.checked_sub(self.written.since(&key)) {
                return Ok(Some(wait));
            }
            if self.written.is_behind(&node) {
                return Ok(Some(BETWEEN_WRITES));
            }
            let seen = self.observer.look(&node).await;
            let namespace = node.namespace().unwrap_or_default();
            let id = self.context.alias_id(&namespace);
            let is_sure = seen.is_some();
            let left = orphans::transits(&seen, &id);
            let status = status::status(&node, seen, &id, &self.put(&node), Timestamp::now());
            if is_sure && node.status.as_ref() == Some(&status) {
                let key = ObjectRef::from_obj(&*node);
                self.context.looked.send_if_modified(|looked| looked.insert(key));
            }
            if node.status.as_ref() != Some(&status) && !self.can_wait(&node, &status) {
                let api = cluster::api(&self.context.client, Some(&namespace));
                let version = cluster::apply_status(&api, &*node, &status, Precondition::None).await?;
                self.written.note(key, version.as_deref());
            }
            orphans::remove(&self.context, &node, &status, &id).await;
            orphans::remove_transits(&self.context, &node, &left).await;
            let spread = 1.0 + JITTER * (2.0 * rand::random::<f64>() - 1.0);
            Ok(Some(self.context.options.probe_interval.mul_f64(spread)))
        }
        .boxed()
    }

    /// Its status is what the last look found: no reason for another one.
    fn is_woken_by(change: &Changed<OllamaNode>) -> bool {
        !change.is_of_status_only()
    }

    fn forget(&self, node: &ObjectRef<OllamaNode>) {
        self.observer.forget(node);
        self.context.looked.send_if_modified(|looked| looked.remove(node));
        self.written.forget(node);
        self.context.pulling.take_put(node, |_| true);
    }
}

impl Nodes {
    /// Whether more of the same is to come soon: other pulls wait for the node.
    fn can_wait(&self, node: &OllamaNode, next: &OllamaNodeStatus) -> bool {
        let is_soon = self.written.since(&ObjectRef::from_obj(node)) < WHILE_PULLS_FOLLOW;
        // What is on record before it is there is what a pull waits for.
        let is_listed = |name: &String| next.models.iter().any(|model| ModelName::same(&model.name, name));
        let earlier = node.status.as_ref().is_some_and(|status| pull::is_of_models_only(status, next));
        is_soon && earlier && next.pulled.iter().all(is_listed) && self.context.pulling.is_awaited(&node.spec.url)
    }

    /// The models that Drover put on a node: those on record, unless nobody wants them any more, and the new ones.
    fn put(&self, node: &OllamaNode) -> status::Put {
        let new = self.context.pulling.take_put(&ObjectRef::from_obj(node), |name| node.is_pulled(name));
        let earlier = node.status.iter().flat_map(|status| &status.pulled);
        let gone = earlier.filter(|name| node.model(name).is_none());
        let unwanted = gone.filter(|name| self.context.pulls.is_whole() && !self.is_wanted(node, name));
        status::Put { unwanted: unwanted.cloned().collect(), new }
    }

    fn is_wanted(&self, node: &OllamaNode, name: &str) -> bool {
        pull::of_node(&self.context.pulls, node).any(|pull| {
            let lives = pull.metadata.deletion_timestamp.is_none();
            lives && ModelName::same(&pull.spec.model, name) && is_wanted(&pull, node)
        })
    }
}
