//! Keeps two versions that don't fit into a node's memory together on nodes of their own: pure.

use super::{Target, runners::keep};
use crate::{
    api::OllamaNode,
    domain::routing::{Site, apart, claims},
};

const WHY: &str = "it has no room for the other version of the rollout, which it runs";

/// A version as nodes hold it.
#[derive(Clone, Copy)]
pub struct Held<'a> {
    /// Its name on nodes.
    pub alias: &'a str,
    /// Its digest.
    pub digest: &'a str,
}

/// What two versions take on nodes.
pub fn sites<'a>(nodes: impl IntoIterator<Item = &'a OllamaNode>, held: [Held<'_>; 2]) -> Vec<Site> {
    let site = |node: &OllamaNode| {
        let takes = held.map(|held| node.takes(held.alias, held.digest));
        let node =
            Site { node: node.metadata.name.clone().unwrap_or_default(), memory: node.spec.memory.map(|m| m.0), takes };
        (node.takes != [None, None]).then_some(node)
    };
    nodes.into_iter().filter_map(site).collect()
}

/// Leaves the version that serves and the one on trial the nodes that are its own; `weight` is the latter's.
pub fn keep_apart<'a>(
    deployment: &str,
    sides: [&mut Target; 2],
    weight: u8,
    nodes: impl IntoIterator<Item = &'a OllamaNode>,
) {
    let [stable, canary] = sides;
    // Versions with the same weights take memory once.
    if stable.digest == canary.digest || stable.digest.is_empty() || canary.digest.is_empty() {
        return;
    }
    let holds = |target: &Target, name: &str| target.holders.iter().any(|holder| holder.node.name == name);
    let held = [&*stable, &*canary].map(|target| Held { alias: &target.model, digest: &target.digest });
    let mut sites = sites(nodes, held);
    for site in &mut sites {
        for (target, takes) in [&*stable, &*canary].into_iter().zip(&mut site.takes) {
            takes.take_if(|_| !holds(target, &site.node));
        }
    }
    sites.retain(|site| site.takes != [None, None]);
    let share = u32::from(weight.min(100));
    let placements = apart(&claims(deployment, [100 - share, share], &sites));
    for (target, placement) in [stable, canary].into_iter().zip(&placements) {
        keep(target, placement, WHY);
    }
}
