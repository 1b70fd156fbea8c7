//! An index finds what looking at every object finds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use drover::{
    api::OllamaNode,
    cluster::Index,
    domain::labels::{NodeSelector, words},
};
use kube::ResourceExt;
use proptest::{
    collection::{btree_map, vec},
    prelude::*,
};
use serde_json::json;

type Labels = BTreeMap<String, String>;

fn labels() -> impl Strategy<Value = Labels> {
    btree_map("[ab]", "[xy]", 0..3)
}

fn node(namespace: &str, name: &str, labels: &Labels) -> Arc<OllamaNode> {
    let metadata = json!({"namespace": namespace, "name": name, "labels": labels});
    let object = json!({"apiVersion": "drover.dev/v1alpha1", "kind": "OllamaNode", "metadata": metadata,
        "spec": {"url": "http://127.0.0.1:1"}});
    Arc::new(serde_json::from_value(object).expect("a node"))
}

fn names<'a>(nodes: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    nodes.map(str::to_owned).collect()
}

proptest! {
    #[test]
    fn every_picked_node_is_found_by_the_selectors_word(
        changes in vec(("[mn]", "[1-4]", prop::option::of(labels())), 0..30),
        wanted in labels(),
        from_scratch: bool,
    ) {
        let index = Index::<OllamaNode>::new(|node| words(node.labels()));
        let mut there = BTreeMap::new();
        for (namespace, name, labels) in changes {
            let key = (namespace.clone(), name.clone());
            let after = labels.map(|labels| node(&namespace, &name, &labels));
            let before = match &after {
                Some(after) => there.insert(key, after.clone()),
                None => there.remove(&key),
            };
            index.replace(before.as_deref(), after.as_deref());
        }
        if from_scratch {
            index.replace_all(&there.values().cloned().collect::<Vec<_>>());
        }
        let selector = NodeSelector { match_labels: wanted, ..NodeSelector::default() };
        for namespace in ["m", "n"] {
            let found = index.having(namespace, &selector.word());
            let found = names(found.iter().map(|node| node.name.as_str()));
            let here = there.values().filter(|node| node.namespace().as_deref() == Some(namespace));
            let picked: Vec<_> = here.clone().filter(|node| selector.matches(node.labels())).collect();
            prop_assert!(names(picked.iter().map(|node| node.metadata.name.as_deref().unwrap_or_default())).is_subset(&found));
            let having = here.filter(|node| words(node.labels()).contains(&selector.word()));
            prop_assert_eq!(names(having.map(|node| node.metadata.name.as_deref().unwrap_or_default())), found);
        }
    }
}
