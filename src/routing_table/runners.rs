//! Keeps versions that share weights, but not the way they are run, on nodes of their own: pure.

use std::collections::BTreeSet;

use super::{Namespace, Target};
use crate::domain::routing::{Claim, Placement, apart, runner, shortages};

const WHY: &str =
    "it runs a version with the same weights and other options: both would make it load the model at every turn";

/// That there are not enough nodes for versions that run the same weights differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The deployments concerned.
    pub deployments: BTreeSet<String>,
    /// What that means and what to do, with numbers.
    pub message: String,
}

/// Leaves each version the nodes that are its own, and says for which there are not enough.
pub(super) fn keep_runners_apart(namespace: &mut Namespace) -> Vec<Shortage> {
    let mut sides: Vec<(String, u32, &mut Target)> = Vec::new();
    for (name, deployment) in &mut namespace.deployments {
        let weight = deployment.canary.as_ref().map_or(0, |canary| u32::from(canary.weight.min(100)));
        sides.push((name.clone(), 100 - weight, &mut deployment.stable));
        sides.extend(deployment.canary.as_mut().map(|canary| (name.clone(), weight, &mut canary.target)));
    }
    // What a provider runs has no digest, and is none of the nodes' business.
    sides.retain(|(_, _, target)| !target.digest.is_empty());
    let claims: Vec<Claim> = sides.iter().map(|(name, share, target)| claim(name, *share, target)).collect();
    let placements = apart(&claims);
    let deployments = |claims: Vec<usize>| claims.into_iter().map(|claim| sides[claim].0.clone()).collect();
    let short = shortages(&claims, &placements).into_iter();
    let short =
        short.map(|found| Shortage { deployments: deployments(found.claims), message: found.message }).collect();
    for ((_, _, target), placement) in sides.iter_mut().zip(&placements) {
        keep(target, placement, WHY);
    }
    short
}

fn claim(deployment: &str, share: u32, target: &Target) -> Claim {
    let wanted =
        |holder: &super::Holder| (holder.node.name.clone(), runner(&target.parameters, holder.node.context_length));
    let version = target.version.as_deref().unwrap_or_default();
    Claim {
        name: format!("{deployment} {version}"),
        weights: target.digest.clone(),
        share,
        runners: target.holders.iter().map(wanted).collect(),
    }
}

/// Leaves a version the nodes of its placement; `why` is told of the others.
pub(super) fn keep(target: &mut Target, placement: &Placement, why: &str) {
    let (kept, others): (Vec<_>, Vec<_>) =
        target.holders.drain(..).partition(|holder| placement.nodes.contains(&holder.node.name));
    target.holders = kept;
    target.passed_over.extend(others.into_iter().map(|holder| (holder.node.name.clone(), why.to_owned())));
}
