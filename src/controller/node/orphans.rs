//! Names that Drover made on a node and nothing stands for any more: they would keep bytes there. Aliases whose version
//! went while the node was away or not declared, and names of pulls that were broken off.

use std::sync::Arc;

use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use tracing::{info, warn};

use super::{super::Context, observe::Seen};
use crate::{
    api::{ModelVersion, OllamaNode, OllamaNodeStatus},
    domain::alias::{self, alias},
    ports::NodeError,
};

/// The aliases on a node that no version stands for. `id` is this installation's part of aliases.
fn orphans<'a>(status: &'a OllamaNodeStatus, versions: &[Arc<ModelVersion>], id: &str) -> Vec<&'a str> {
    let stands = |name: &str| versions.iter().any(|v| alias(id, &v.spec.model, &v.spec.version) == name);
    status.versions.iter().map(|held| held.alias.as_str()).filter(|name| !stands(name)).collect()
}

/// Removes them, unless the view of the versions is incomplete or the node is busy: then a later look does.
pub async fn remove(context: &Context, node: &OllamaNode, status: &OllamaNodeStatus, id: &str) {
    if status.versions.is_empty() || status.stale || !context.versions.is_whole() {
        return;
    }
    let versions = context.versions.list(&node.namespace().unwrap_or_default());
    for alias in orphans(status, &versions, id) {
        let Some(_turn) = context.pulling.try_lock(&node.spec.url) else { return };
        match context.ollama.delete(&node.spec.url, alias).await {
            Ok(()) => {
                info!(node = %node.name_any(), alias, "removed the alias of a version that is gone");
                context.pokes.node(ObjectRef::from_obj(node));
            }
            Err(error) => warn!(node = %node.name_any(), alias, %error, "the alias of a version that is gone stays"),
        }
    }
}

/// The names on a node by which this installation pulled through the mirror.
pub fn transits(seen: &Seen, id: &str) -> Vec<String> {
    let models = seen.iter().flatten().flat_map(|probe| &probe.models);
    models.map(|model| &model.name).filter(|name| alias::is_own_transit(id, name)).cloned().collect()
}

/// Removes them, unless an attempt is under way on the node: it has the node's lock, and the name may be its own.
pub async fn remove_transits(context: &Context, node: &OllamaNode, names: &[String]) {
    if names.is_empty() {
        return;
    }
    let Some(_turn) = context.pulling.try_lock(&node.spec.url) else { return };
    for name in names {
        match context.ollama.delete(&node.spec.url, name).await {
            // It was the name of an attempt that ended meanwhile.
            Err(NodeError::Status { status: 404, .. }) => {}
            Ok(()) => info!(node = %node.name_any(), "removed the name of a pull that was broken off"),
            Err(error) => warn!(node = %node.name_any(), %error, "the name of a pull that was broken off stays"),
        }
    }
}
