//! Takes a model away with its object, where `deletionPolicy: Delete` asks for that: only what Drover put there, and only
//! where nobody else wants it. A deleted object always goes: what can't be done within a minute is told and left.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use tracing::{info, warn};

use super::{super::Context, changes, observe::is_wanted};
use crate::{
    api::{ModelPull, OllamaNode},
    domain::{model_name::ModelName, pull::elapsed},
    ports::NodeError,
};

/// How long the object waits for nodes that are away.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long one node may take.
const DELETE_WITHIN: Duration = Duration::from_secs(10);
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Deletes what is to be deleted; when to try again what could not be.
pub async fn clean(context: &Context, pull: &ModelPull) -> Option<Duration> {
    let nodes = context.nodes.list(&pull.namespace().unwrap_or_default());
    let holders = nodes.iter().filter(|node| node.model(&pull.spec.model).is_some());
    let (put, adopted): (Vec<_>, Vec<_>) = holders.partition(|node| {
        node.is_pulled(&pull.spec.model) || context.pulling.is_put(&ObjectRef::from_obj(&***node), &pull.spec.model)
    });
    let unwanted: Vec<_> = put.into_iter().filter(|node| !is_wanted_by_others(context, pull, node)).collect();
    let left: Vec<_> = join_all(unwanted.iter().map(|node| delete(context, pull, node))).await;
    let left: Vec<String> = left.into_iter().flatten().collect();
    let since = pull.metadata.deletion_timestamp.as_ref().map_or(DEADLINE, |time| elapsed(time.0, Timestamp::now()));
    if !left.is_empty() && since < DEADLINE {
        return Some(TRY_AGAIN_AFTER);
    }
    let adopted: Vec<String> =
        adopted.iter().filter(|node| is_wanted(pull, node)).map(|node| node.name_any()).collect();
    tell(context, pull, &adopted, "where it was before Drover").await;
    tell(context, pull, &left, "which could not be reached or did not delete it").await;
    None
}

async fn tell(context: &Context, pull: &ModelPull, nodes: &[String], why: &str) {
    const NAMED: usize = 5;
    if nodes.is_empty() {
        return;
    }
    let more = nodes.len().saturating_sub(NAMED);
    let names = nodes.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let message = format!("{} stays on {names}{more}, {why}", pull.spec.model);
    context.events.publish(pull, "Retained", &message, true).await;
}

fn is_wanted_by_others(context: &Context, pull: &ModelPull, node: &OllamaNode) -> bool {
    let mut others = changes::of_node(&context.pulls, node);
    others.any(|other| {
        other.metadata.deletion_timestamp.is_none()
            && ModelName::same(&other.spec.model, &pull.spec.model)
            && is_wanted(&other, node)
    })
}

/// The node's name, if the model is still there.
async fn delete(context: &Context, pull: &ModelPull, node: &Arc<OllamaNode>) -> Option<String> {
    let model = &pull.spec.model;
    let deletion = async {
        let _turn = context.pulling.lock(&node.spec.url).await;
        context.ollama.delete(&node.spec.url, model).await
    };
    match tokio::time::timeout(DELETE_WITHIN, deletion).await {
        Ok(Ok(()) | Err(NodeError::Status { status: 404, .. })) => {
            info!(node = %node.name_any(), model, "deleted with its ModelPull");
            context.pokes.node(ObjectRef::from_obj(&**node));
            None
        }
        Ok(Err(error)) => {
            warn!(node = %node.name_any(), model, %error, "a model stays on this node for now");
            Some(node.name_any())
        }
        Err(_) => {
            warn!(node = %node.name_any(), model, "a model stays on this node for now: it did not answer in time");
            Some(node.name_any())
        }
    }
}
