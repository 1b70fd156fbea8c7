//! What the objects say about the fleet's health: pure.

use std::{collections::BTreeMap, sync::Arc};

use kube::{Resource, ResourceExt};

use crate::{
    api::{HasConditions, ModelPull, OllamaNode, Provider},
    domain::{
        conditions::{Condition, ConditionStatus, READY},
        health::{self, ProviderHealth, Report, SeenNode, SeenPull},
        provider::NO_KEY,
    },
};

/// The objects that say how a fleet is.
#[derive(Clone, Default)]
pub struct Objects {
    /// Nodes.
    pub nodes: Vec<Arc<OllamaNode>>,
    /// Pulls.
    pub pulls: Vec<Arc<ModelPull>>,
    /// Providers.
    pub providers: Vec<Arc<Provider>>,
}

/// Those of one namespace.
#[derive(Default)]
struct Space<'a> {
    nodes: Vec<&'a OllamaNode>,
    pulls: Vec<&'a ModelPull>,
    providers: Vec<&'a Provider>,
}

/// The health of each namespace that has any of them.
pub fn reports(fleet: &Objects) -> BTreeMap<&str, Report<'_>> {
    let mut spaces: BTreeMap<&str, Space<'_>> = BTreeMap::new();
    for node in fleet.nodes.iter().filter(|node| stays(&***node)) {
        spaces.entry(namespace(&**node)).or_default().nodes.push(node);
    }
    for pull in fleet.pulls.iter().filter(|pull| stays(&***pull)) {
        spaces.entry(namespace(&**pull)).or_default().pulls.push(pull);
    }
    for provider in fleet.providers.iter().filter(|provider| stays(&***provider)) {
        spaces.entry(namespace(&**provider)).or_default().providers.push(provider);
    }
    let mut reports = BTreeMap::new();
    for (name, Space { nodes, pulls, providers }) in spaces {
        let seen_pulls: Vec<_> = pulls.iter().map(|pull| seen_pull(pull, &nodes)).collect();
        let seen_nodes: Vec<_> = nodes.iter().map(|node| seen_node(node)).collect();
        let seen_providers = providers.iter().map(|provider| seen_provider(provider)).collect();
        reports.insert(name, health::report(name, &seen_nodes, &seen_pulls, seen_providers));
    }
    reports
}

fn stays<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_none()
}

fn namespace<K: Resource>(object: &K) -> &str {
    object.meta().namespace.as_deref().unwrap_or_default()
}

fn name<K: Resource>(object: &K) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

fn ready<K: HasConditions>(object: &K) -> Option<&Condition> {
    object.conditions().iter().find(|condition| condition.type_ == READY)
}

fn seen_node(node: &OllamaNode) -> SeenNode<'_> {
    let (reason, message) = match (node.spec.maintenance, ready(node)) {
        (true, _) => (health::MAINTENANCE, "it is in maintenance"),
        (false, Some(ready)) => (ready.reason.as_str(), ready.message.as_str()),
        (false, None) => ("Unknown", "it was not looked at yet"),
    };
    let models = node.status.iter().flat_map(|status| &status.models);
    SeenNode {
        name: name(node),
        ready: node.usable().is_ok(),
        drained: node.spec.maintenance,
        reason,
        message,
        models: models.map(|model| (model.name.as_str(), model.digest.as_str())).collect(),
    }
}

fn seen_provider(provider: &Provider) -> ProviderHealth<'_> {
    let reason = ready(provider).map_or("", |ready| ready.reason.as_str());
    ProviderHealth {
        namespace: namespace(provider),
        name: name(provider),
        configured: true,
        key_present: reason != NO_KEY,
        reachable: provider.usable().is_ok(),
    }
}

fn seen_pull<'a>(pull: &'a ModelPull, nodes: &[&'a OllamaNode]) -> SeenPull<'a> {
    let selected = nodes.iter().enumerate().filter(|(_, node)| pull.spec.node_selector.matches(node.labels()));
    let status = pull.status.as_ref().filter(|status| status.observed_generation == pull.metadata.generation);
    let done = ready(pull).is_some_and(|ready| ready.status == ConditionStatus::True);
    // A pin may be the registry's digest, which differs from the nodes' where the manifest is encoded otherwise.
    let pinned = pull.spec.digest.as_deref();
    let resolved = pull.status.as_ref().and_then(|status| status.resolved.as_ref());
    let same = resolved.filter(|resolved| pinned == Some(resolved.upstream_digest.as_str()));
    SeenPull {
        name: name(pull),
        model: &pull.spec.model,
        required: pull.spec.required,
        suspended: pull.spec.suspend,
        selected: selected.map(|(index, _)| index).collect(),
        digests: pinned.into_iter().chain(same.map(|resolved| resolved.digest.as_str())).collect(),
        message: status.filter(|_| !done).and_then(|_| ready(pull)).map_or("", |ready| ready.message.as_str()),
    }
}
