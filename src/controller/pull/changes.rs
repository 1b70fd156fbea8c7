//! Which nodes a pull is for, and which pulls a change of a node concerns: most changes are about one model, and a fleet
//! has many nodes and many pulls.

use std::{collections::HashSet, sync::Arc};

use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;

use super::observe::is_wanted;
use crate::{
    api::{ModelPull, OllamaNode, OllamaNodeStatus},
    cluster::{Changed, Watched},
    domain::{labels, model_name::ModelName},
};

/// What nodes are found by.
pub fn words_of_node(node: &OllamaNode) -> Vec<String> {
    labels::words(node.labels())
}

/// What pulls are found by.
pub fn words_of_pull(pull: &ModelPull) -> Vec<String> {
    vec![pull.spec.node_selector.word()]
}

/// The nodes that must hold a pull's model, by name.
pub fn nodes(nodes: &Watched<OllamaNode>, pull: &ModelPull) -> Vec<Arc<OllamaNode>> {
    let mut nodes = nodes.having(&pull.namespace().unwrap_or_default(), &pull.spec.node_selector.word());
    nodes.retain(|node| is_wanted(pull, node));
    nodes
}

/// The pulls whose selector picks a node.
pub fn of_node(pulls: &Watched<ModelPull>, node: &OllamaNode) -> impl Iterator<Item = Arc<ModelPull>> {
    let namespace = node.namespace().unwrap_or_default();
    let found = words_of_node(node).into_iter().flat_map(move |word| pulls.having(&namespace, &word));
    found.filter(|pull| pull.spec.node_selector.matches(node.labels()))
}

/// The pulls that a change of a node concerns.
pub fn concerned(pulls: &Watched<ModelPull>, change: &Changed<OllamaNode>) -> Vec<ObjectRef<ModelPull>> {
    let difference = Difference::of(change);
    let states = change.states().flat_map(|node| of_node(pulls, node));
    let found: HashSet<_> =
        states.filter(|pull| difference.concerns(&pull.spec.model)).map(|pull| ObjectRef::from_obj(&*pull)).collect();
    found.into_iter().collect()
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
        let [status_before, status_after] = [before, after].map(|node| node.status.clone().unwrap_or_default());
        if !change.is_of_status_only() || !is_of_models_only(&status_before, &status_after) {
            return Self::More;
        }
        let (before, after) = (names(before), names(after));
        Self::Models(before.symmetric_difference(&after).map(|(name, ..)| (*name).to_owned()).collect())
    }

    fn concerns(&self, model: &str) -> bool {
        match self {
            Self::More => true,
            Self::Models(names) => names.iter().any(|name| ModelName::same(name, model)),
        }
    }
}

/// What a node holds by name, and what is on record as pulled there.
fn names(node: &OllamaNode) -> HashSet<(&str, &str, i64)> {
    let Some(status) = &node.status else { return HashSet::new() };
    let held = status.models.iter().map(|model| (model.name.as_str(), model.digest.as_str(), model.size_bytes));
    held.chain(status.pulled.iter().map(|name| (name.as_str(), "", 0))).collect()
}

/// Whether two statuses of a node say the same but for its models.
pub fn is_of_models_only(before: &OllamaNodeStatus, after: &OllamaNodeStatus) -> bool {
    let [before, after] = [before, after].map(|status| OllamaNodeStatus {
        models: Vec::new(),
        model_count: 0,
        loaded: Vec::new(),
        pulled: Vec::new(),
        ..status.clone()
    });
    before == after
}
