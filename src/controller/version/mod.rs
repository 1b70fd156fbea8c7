//! `ModelVersion`: resolves a version to a digest, once, and gives the nodes that hold it Drover's own name for it.

mod act;
mod audit;
mod plan;
pub mod provided;
mod status;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;

use super::{
    Context, Error,
    driver::{self, Reconciler, references},
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
    let by_twin = in_namespace(&versions, plan::are_twins);
    let by_provider = in_namespace(&versions, |provider: &Provider, version: &ModelVersion| {
        version.spec.source.provider.as_ref().is_some_and(|source| source.name == provider.name_any())
    });
    let triggers = vec![
        references(&versions, versions.clone(), by_twin),
        references(&context.nodes, versions.clone(), by_node),
        references(&context.deployments, versions.clone(), by_deployment),
        references(&context.providers, versions.clone(), by_provider),
    ];
    context.nodes.ready().await?;
    context.deployments.ready().await?;
    context.providers.ready().await?;
    let meter = context.meters.of::<ModelVersion>();
    driver::run(Arc::new(Versions { context }), versions, triggers, meter, stop).await
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
            let all = self.context.versions.list(&namespace);
            if let Some(source) = &version.spec.source.provider {
                let providers = self.context.providers.list(&namespace);
                let status = provided::status(&version, source, &all, &providers, &deployments, Timestamp::now());
                if version.status.as_ref() != Some(&status) {
                    cluster::apply_status(&api, &*version, &status, Precondition::SameVersion).await?;
                }
                return Ok(None);
            }
            let plan = plan::plan(&version, &all, &nodes, &self.context.alias_id(&namespace));
            if !plan.copies.is_empty() && !has_finalizer {
                cluster::set_finalizer(&api, &*version, FINALIZER, true).await?;
                return Ok(None);
            }
            let status = status::status(&version, &plan, &nodes, &deployments, Timestamp::now());
            if version.status.as_ref() != Some(&status) {
                cluster::apply_status(&api, &*version, &status, Precondition::SameVersion).await?;
                // The digest must be on record before a name on a node relies on it.
                return Ok((!plan.copies.is_empty()).then_some(Duration::ZERO));
            }
            let busy = act::copy(&self.context, &plan, &nodes).await?;
            Ok(busy.then_some(WHILE_BUSY))
        }
        .boxed()
    }

    fn forget(&self, _: &ObjectRef<ModelVersion>) {}
}
