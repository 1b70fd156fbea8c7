//! `ModelVersion`: resolves a version to a digest, once, and gives the nodes that hold it Drover's own name for it.

mod act;
pub mod around;
mod audit;
mod plan;
pub mod provided;
mod status;
mod surplus;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;

use around::Around;

use super::{
    Context, Error,
    driver::{self, Reconciler, references, references_of_change},
};
use crate::{
    api::{ModelDeployment, ModelVersion, OllamaNode, Provider},
    cluster::{self, Precondition, Watched},
};

/// On every version whose alias may be on a node: the aliases go with the object.
const FINALIZER: &str = "drover.dev/aliases";
/// A node busy with a pull is tried again after this.
const WHILE_BUSY: Duration = Duration::from_secs(1);

struct Versions {
    context: Arc<Context>,
    surplus: surplus::Surplus,
}

/// Runs until `stop`.
///
/// # Errors
/// When a watch ends that must not.
pub async fn run(context: Arc<Context>, stop: CancellationToken) -> Result<(), String> {
    let versions = context.versions.clone();
    let by_node = in_namespace(&versions, |_: &OllamaNode, _| true);
    let by_deployment = in_namespace(&versions, |deployment: &ModelDeployment, version: &ModelVersion| {
        deployment.spec.model == version.spec.model
    });
    let of_version = versions.clone();
    let by_relative = move |change: &cluster::Changed<ModelVersion>| match change.states().last() {
        Some(changed) if !change.is_of_status_only() => {
            let others = of_version.list(&changed.namespace().unwrap_or_default());
            let concerned = others.iter().filter(|other| is_relative(changed, other));
            concerned.map(|other| ObjectRef::from_obj(&**other)).collect()
        }
        _ => Vec::new(),
    };
    let by_provider = in_namespace(&versions, |provider: &Provider, version: &ModelVersion| {
        version.spec.source.provider.as_ref().is_some_and(|source| source.name == provider.name_any())
    });
    let triggers = vec![
        references_of_change(&versions, versions.clone(), by_relative),
        references(&context.nodes, versions.clone(), by_node),
        references(&context.deployments, versions.clone(), by_deployment),
        references(&context.providers, versions.clone(), by_provider),
    ];
    context.nodes.ready().await?;
    context.deployments.ready().await?;
    context.providers.ready().await?;
    let meter = context.meters.of::<ModelVersion>();
    let reconciler = Versions { context, surplus: surplus::Surplus::default() };
    driver::run(Arc::new(reconciler), versions, triggers, meter, stop).await
}

/// Whether another version is to be looked at when this one comes, goes or is edited: it may be the same one, or
/// descend from it.
fn is_relative(changed: &ModelVersion, other: &ModelVersion) -> bool {
    around::are_twins(changed, other) || (changed.spec.model == other.spec.model && other.spec.parent.is_some())
}

/// The versions of an object's namespace that it concerns.
fn in_namespace<O: cluster::Kind>(
    versions: &Watched<ModelVersion>,
    concerns: impl Fn(&O, &ModelVersion) -> bool + Send + Sync + 'static,
) -> impl Fn(&O) -> Vec<ObjectRef<ModelVersion>> + Send + Sync + 'static {
    let versions = versions.clone();
    move |object| {
        let versions = versions.list(&object.namespace().unwrap_or_default());
        versions.iter().filter(|v| concerns(object, v)).map(|version| ObjectRef::from_obj(&**version)).collect()
    }
}

impl Reconciler for Versions {
    type Kind = ModelVersion;

    fn reconcile(self: Arc<Self>, version: Arc<ModelVersion>) -> BoxFuture<'static, Result<Option<Duration>, Error>> {
        async move {
            let namespace = version.namespace().unwrap_or_default();
            let api = cluster::api::<ModelVersion>(&self.context.client, Some(&namespace));
            let nodes = self.context.nodes.list(&namespace);
            let has_finalizer = version.finalizers().iter().any(|name| name == FINALIZER);
            if version.metadata.deletion_timestamp.is_some() {
                if has_finalizer {
                    act::remove_aliases(&self.context, &version, &nodes).await;
                    cluster::set_finalizer(&api, &*version, FINALIZER, false).await?;
                }
                return Ok(None);
            }
            let deployments = self.context.deployments.list(&namespace);
            let versions = self.context.versions.list(&namespace);
            let around = Around { version: &version, versions: &versions, deployments: &deployments };
            if let Some(source) = &version.spec.source.provider {
                let providers = self.context.providers.list(&namespace);
                let status = provided::status(&around, source, &providers, Timestamp::now());
                if version.status.as_ref() != Some(&status) {
                    cluster::apply_status(&api, &*version, &status, Precondition::SameVersion).await?;
                }
                return Ok(None);
            }
            let plan = plan::plan(&around, &nodes, &self.context.alias_id(&namespace));
            if !plan.copies.is_empty() && !has_finalizer {
                cluster::set_finalizer(&api, &*version, FINALIZER, true).await?;
                return Ok(None);
            }
            let status = status::status(&around, &plan, &nodes, Timestamp::now());
            if version.status.as_ref() != Some(&status) {
                cluster::apply_status(&api, &*version, &status, Precondition::SameVersion).await?;
                // The digest must be on record before a name on a node relies on it.
                return Ok((!plan.copies.is_empty() || !plan.is_kept).then_some(Duration::ZERO));
            }
            let is_held = nodes.iter().any(|node| act::has(node, &plan.alias));
            let collect_in = self.surplus.due_in(&version, is_held && !plan.is_kept && plan.digest.is_ok());
            if collect_in == Some(Duration::ZERO) {
                let busy = act::collect(&self.context, &plan.alias, &nodes).await;
                return Ok(busy.then_some(WHILE_BUSY));
            }
            let busy = act::copy(&self.context, &plan, &nodes).await?;
            Ok(if busy { Some(WHILE_BUSY) } else { collect_in })
        }
        .boxed()
    }

    fn forget(&self, version: &ObjectRef<ModelVersion>) {
        self.surplus.forget(version);
    }
}
