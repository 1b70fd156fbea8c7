//! Aliases whose version is gone, on a node that was away or not declared when it went: they would keep its bytes.

use std::sync::Arc;

use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use tracing::{info, warn};

use super::super::Context;
use crate::{
    api::{ModelVersion, OllamaNode, OllamaNodeStatus},
    domain::alias::alias,
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
