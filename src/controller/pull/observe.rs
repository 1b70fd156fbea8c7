//! What is known of the nodes that a pull wants.

use std::sync::Arc;

use kube::ResourceExt;

use super::super::{Context, selection};
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
    let namespace = pull.namespace().unwrap_or_default();
    let picked = selection::nodes(&context.nodes, &namespace, &pull.spec.node_selector).into_iter();
    picked.map(|node| Seen { attempt: context.pulling.attempt(&node.spec.url, &pull.spec.model), node }).collect()
}
