//! Makes and removes aliases on nodes.

use std::{sync::Arc, time::Duration};

use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use tracing::{info, warn};

use super::{
    super::{Context, Error},
    plan::Plan,
};
use crate::api::{ModelVersion, OllamaNode};

/// A node that does not let go of an alias within this time is left alone: deletions are never held up for long.
const REMOVE_WITHIN: Duration = Duration::from_secs(20);

/// Makes the missing aliases; true when a node was busy and must be tried again. A node that fails does not keep the
/// others from theirs.
pub async fn copy(context: &Context, plan: &Plan, nodes: &[Arc<OllamaNode>]) -> Result<bool, Error> {
    let (mut busy, mut failed) = (false, None);
    for (index, from) in &plan.copies {
        let node = &nodes[*index];
        let Some(_turn) = context.pulling.try_lock(&node.spec.url) else {
            busy = true;
            continue;
        };
        match context.ollama.copy(&node.spec.url, from, &plan.alias).await {
            Ok(()) => {
                info!(node = %node.name_any(), from, alias = plan.alias, "made an alias");
                context.pokes.node(ObjectRef::from_obj(&**node));
            }
            Err(error) => failed = Some(Error::Node { node: node.name_any(), error }),
        }
    }
    failed.map_or(Ok(busy), Err)
}

/// Removes the alias from nodes that keep it for nothing; true when a node was busy and must be tried again. One that
/// fails is tried at the next look.
pub async fn collect(context: &Context, alias: &str, nodes: &[Arc<OllamaNode>]) -> bool {
    let mut busy = false;
    for node in nodes.iter().filter(|node| node.usable().is_ok() && has(node, alias)) {
        let Some(_turn) = context.pulling.try_lock(&node.spec.url) else {
            busy = true;
            continue;
        };
        match context.ollama.delete(&node.spec.url, alias).await {
            Ok(()) => {
                info!(node = %node.name_any(), alias, "removed the alias of a version that its rollbackWindow doesn't keep");
                context.pokes.node(ObjectRef::from_obj(&**node));
            }
            Err(error) => warn!(node = %node.name_any(), alias, %error, "an alias stays on this node"),
        }
    }
    busy
}

/// Whether a node holds something under the alias.
pub fn has(node: &OllamaNode, alias: &str) -> bool {
    node.status.iter().flat_map(|status| &status.versions).any(|held| held.alias == alias)
}

/// Removes the aliases that the status recorded, as far as nodes can be reached: bytes that another name uses stay.
pub async fn remove_aliases(context: &Context, version: &ModelVersion, nodes: &[Arc<OllamaNode>]) {
    let Some(alias) = version.status.as_ref().and_then(|status| status.alias.as_ref()) else { return };
    let holders = nodes.iter().filter(|node| has(node, alias));
    let removals = holders.map(|node| async move {
        let removal = async {
            let _turn = context.pulling.lock(&node.spec.url).await;
            context.ollama.delete(&node.spec.url, alias).await
        };
        match tokio::time::timeout(REMOVE_WITHIN, removal).await {
            Ok(Ok(())) => context.pokes.node(ObjectRef::from_obj(&**node)),
            Ok(Err(error)) => warn!(node = %node.name_any(), alias, %error, "an alias stays on this node"),
            Err(_) => warn!(node = %node.name_any(), alias, "an alias stays on this node: it did not answer in time"),
        }
    });
    futures::future::join_all(removals).await;
}
