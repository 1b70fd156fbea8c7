//! Which pulls a change of a node concerns: most changes are about one model, and a fleet has many nodes and many pulls.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;

use crate::{
    api::{ModelPull, OllamaNode},
    cluster::Watched,
    domain::model_name::ModelName,
};

/// What changed about a node.
enum Difference {
    /// Everything may have.
    All,
    /// What it holds under these names.
    Models(Vec<String>),
}

/// Finds the pulls, from what is remembered of each node.
pub fn concerned(
    nodes: &Watched<OllamaNode>,
    pulls: &Watched<ModelPull>,
) -> impl Fn(&OllamaNode) -> Vec<ObjectRef<ModelPull>> + Send + Sync + 'static {
    let (store, pulls) = (nodes.store(), pulls.clone());
    let seen: Mutex<HashMap<ObjectRef<OllamaNode>, Arc<OllamaNode>>> = Mutex::default();
    move |node| {
        let key = ObjectRef::from_obj(node);
        let earlier = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match store.get(&key) {
                Some(_) => seen.insert(key, Arc::new(node.clone())),
                None => {
                    seen.remove(&key);
                    None
                }
            }
        };
        let difference = earlier.as_ref().map_or(Difference::All, |earlier| difference(earlier, node));
        let selects = |pull: &ModelPull, node: &OllamaNode| pull.spec.node_selector.matches(node.labels());
        let found = pulls.find(&node.namespace().unwrap_or_default(), |pull| match &difference {
            // A label that is gone concerns those that it picked.
            Difference::All => selects(pull, node) || earlier.as_ref().is_some_and(|earlier| selects(pull, earlier)),
            Difference::Models(names) => names.iter().any(|name| ModelName::same(name, &pull.spec.model)),
        });
        found.iter().map(|pull| ObjectRef::from_obj(&**pull)).collect()
    }
}

fn difference(before: &OllamaNode, after: &OllamaNode) -> Difference {
    let is_same = before.spec == after.spec
        && before.labels() == after.labels()
        && before.metadata.deletion_timestamp == after.metadata.deletion_timestamp
        && before.usable() == after.usable();
    if !is_same {
        return Difference::All;
    }
    let (one, other) = (names(before), names(after));
    let changed = one.iter().filter(|(name, digest)| other.get(*name) != Some(*digest));
    let added = other.iter().filter(|(name, _)| !one.contains_key(*name));
    Difference::Models(changed.chain(added).map(|(name, _)| (*name).to_owned()).collect())
}

/// What a node holds by name, and what is on record as pulled there.
fn names(node: &OllamaNode) -> HashMap<&str, (&str, bool)> {
    let Some(status) = &node.status else { return HashMap::new() };
    let mut names: HashMap<&str, (&str, bool)> =
        status.models.iter().map(|model| (model.name.as_str(), (model.digest.as_str(), false))).collect();
    for name in &status.pulled {
        names.entry(name).or_insert(("", false)).1 = true;
    }
    names
}
