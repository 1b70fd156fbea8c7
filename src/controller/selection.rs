//! Which nodes a pull is for, and which pulls a node concerns.

use std::{collections::HashSet, sync::Arc};

use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;

use crate::{
    api::{ModelPull, OllamaNode, OllamaNodeStatus},
    cluster::{Changed, Watched},
    domain::{
        labels::{self, NodeSelector},
        model_name::ModelName,
        node::NodeModel,
    },
};

/// What nodes are found by.
pub fn words_of_node(node: &OllamaNode) -> Vec<String> {
    labels::words(node.labels())
}

/// What pulls are found by.
pub fn words_of_pull(pull: &ModelPull) -> Vec<String> {
    vec![pull.spec.node_selector.word()]
}

/// The nodes of a namespace that a selector picks, by name, without those that are being deleted.
pub fn nodes(nodes: &Watched<OllamaNode>, namespace: &str, selector: &NodeSelector) -> Vec<Arc<OllamaNode>> {
    let mut nodes = nodes.having(namespace, &selector.word());
    nodes.retain(|node| picks(selector, node));
    nodes
}

/// The pulls that a change of a node concerns.
pub fn pulls(pulls: &Watched<ModelPull>, change: &Changed<OllamaNode>) -> Vec<ObjectRef<ModelPull>> {
    let difference = Difference::of(change);
    let mut found = HashSet::new();
    for node in change.states() {
        let namespace = node.namespace().unwrap_or_default();
        let candidates = words_of_node(node).into_iter().flat_map(|word| pulls.having(&namespace, &word));
        let concerned =
            candidates.filter(|pull| difference.concerns(&pull.spec.model) && picks(&pull.spec.node_selector, node));
        found.extend(concerned.map(|pull| ObjectRef::from_obj(&*pull)));
    }
    found.into_iter().collect()
}

fn picks(selector: &NodeSelector, node: &OllamaNode) -> bool {
    node.metadata.deletion_timestamp.is_none() && selector.matches(node.labels())
}

/// What changed on a node, as far as pulls care.
enum Difference {
    /// Nothing but the models with these names.
    Models(Vec<String>),
    /// More than models.
    More,
}

impl Difference {
    fn of(change: &Changed<OllamaNode>) -> Self {
        let (Some(before), Some(after)) = (change.before.as_deref(), change.after.as_deref()) else {
            return Self::More;
        };
        if !change.is_of_status_only() || without_models(before) != without_models(after) {
            return Self::More;
        }
        let (before, after) = (models(before), models(after));
        let changed = before.iter().filter(|model| !after.contains(model));
        let changed = changed.chain(after.iter().filter(|model| !before.contains(model)));
        Self::Models(changed.map(|model| model.name.clone()).collect())
    }

    fn concerns(&self, model: &str) -> bool {
        match self {
            Self::More => true,
            Self::Models(names) => names.iter().any(|name| ModelName::same(name, model)),
        }
    }
}

fn models(node: &OllamaNode) -> &[NodeModel] {
    node.status.as_ref().map_or(&[], |status| &status.models)
}

/// The status without what changes with its models alone.
fn without_models(node: &OllamaNode) -> Option<OllamaNodeStatus> {
    let status = node.status.clone()?;
    Some(OllamaNodeStatus { models: Vec::new(), model_count: 0, loaded: Vec::new(), ..status })
}
