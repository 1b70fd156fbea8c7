//! Whether nodes have room for the version that serves and the one that is to be tried.

use kube::ResourceExt;

use super::super::Context;
use crate::{
    api::ModelDeployment,
    domain::{
        conditions::Finding,
        rollout::{Spec, State, Versions},
        routing::no_room,
    },
    routing_table::room::{Held, sites},
};

/// Says so where there is none for both, and keeps a trial from beginning.
pub fn check(
    context: &Context,
    object: &ModelDeployment,
    state: &State,
    spec: &Spec,
    versions: &mut Versions,
) -> Option<Finding> {
    let stable = state.stable.as_ref()?.release.version.clone();
    let trial = state.canary_version().unwrap_or(&spec.version).to_owned();
    if stable == trial || (state.canary.is_none() && spec.steps.is_empty()) {
        return None;
    }
    let namespace = object.namespace().unwrap_or_default();
    let all = context.versions.list(&namespace);
    let find = |name: &str| {
        let same = all.iter().filter(|version| version.spec.model == object.spec.model && version.spec.version == name);
        let status = same.filter_map(|version| version.status.as_ref()).find(|status| status.digest.is_some())?;
        Some(Held { alias: status.alias.as_deref()?, digest: status.digest.as_deref()? })
    };
    let held = [find(&stable)?, find(&trial)?];
    if held[0].digest == held[1].digest {
        return None;
    }
    let nodes = context.nodes.list(&namespace);
    let selector = &object.spec.placement.node_selector;
    let serving = nodes.iter().filter(|node| node.usable().is_ok() && selector.matches(node.labels()));
    let message = no_room([&stable, &trial], &sites(serving.map(AsRef::as_ref), held))?;
    if let Some(found) = versions.get_mut(&trial).filter(|_| state.canary.is_none()) {
        (found.nodes, found.message) = (0, message.clone());
    }
    Some(Finding::new("NoRoomForBoth", true, "MemoryTooSmall", message))
}
