//! What is known of the nodes that a pull wants.

use std::sync::Arc;

use kube::ResourceExt;

use super::super::Context;
use crate::{
    api::{ModelPull, OllamaNode},
    domain::pull::Attempt,
};

/// One node that must hold the model.
pub struct Seen {
    /// The node.
    pub node: Arc<OllamaNode>,
    /// What an attempt there came to.
    pub attempt: Option<Attempt>,
}

/// The nodes that the selector picks, by name.
pub fn observe(context: &Context, pull: &ModelPull) -> Vec<Seen> {
    let nodes = context.nodes.list(&pull.namespace().unwrap_or_default());
    let picked = nodes
        .into_iter()
        .filter(|node| node.metadata.deletion_timestamp.is_none() && pull.spec.node_selector.matches(node.labels()));
    picked.map(|node| Seen { attempt: context.pulling.attempt(&node.spec.url, &pull.spec.model), node }).collect()
}
