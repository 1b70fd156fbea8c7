//! What people see of a version: pure.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    around::Around,
    audit::audit,
    plan::{Plan, Unresolved},
};
use crate::{
    api::{HasConditions, ModelVersion, ModelVersionStatus, OllamaNode},
    domain::{
        conditions::{self, Finding, READY, RECONCILING, STALLED},
        registry::{self, Drift, LineageFault, Stage},
    },
};

/// The status that follows from a plan.
pub fn status(around: &Around<'_>, plan: &Plan, nodes: &[Arc<OllamaNode>], now: Timestamp) -> ModelVersionStatus {
    let version = around.version;
    let digest = plan.digest.clone().ok();
    let holds = |node: &&Arc<OllamaNode>| {
        digest.as_ref().is_some_and(|digest| node.usable().is_ok() && node.holds(&plan.alias, digest).is_some())
    };
    let ready_nodes = nodes.iter().filter(holds).count();
    let mut findings = findings(version, plan, ready_nodes);
    if digest.is_some() {
        findings.extend(drift(version, digest.as_deref(), nodes));
        findings.extend(plan.lineage.as_ref().map(|fault| lost_parent(version, fault)));
    }
    let Stage { lifecycle, weight, deployed_at } = around.stage();
    let generation = version.metadata.generation;
    ModelVersionStatus {
        observed_generation: generation,
        conditions: conditions::merge(version.conditions(), findings, generation, now),
        lifecycle,
        weight,
        deployed_at,
        alias: digest.is_some().then(|| plan.alias.clone()),
        digest,
        ready_nodes: ready_nodes as i64,
        audit: audit(version, around.deployments),
    }
}

/// A version that may not have its parent, and never could.
pub fn bad_parent(version: &ModelVersion, fault: &LineageFault) -> Vec<Finding> {
    let message = fault.advice(&version.spec.model);
    let second = if fault.heals() { RECONCILING } else { STALLED };
    [(READY, false), (second, true)]
        .map(|(type_, holds)| Finding::new(type_, holds, fault.reason(), message.clone()))
        .into()
}

/// A version that is served, or could be, and whose parent is no longer what it was.
pub fn lost_parent(version: &ModelVersion, fault: &LineageFault) -> Finding {
    let message = format!("{}; it is served all the same", fault.advice(&version.spec.model));
    Finding::new("LineageBroken", true, fault.reason(), message)
}

/// Nodes on which the tag stands for something else by now.
fn drift(version: &ModelVersion, digest: Option<&str>, nodes: &[Arc<OllamaNode>]) -> Option<Finding> {
    let (tag, digest) = (&version.spec.source.ollama.as_ref()?.tag, digest?);
    let names: Vec<String> = nodes.iter().map(|node| node.name_any()).collect();
    let held = nodes.iter().zip(&names).filter_map(|(node, name)| {
        let held = node.model(tag).filter(|held| held.digest != digest)?;
        Some(Drift { node: name, digest: &held.digest })
    });
    let message = registry::drifted(&version.spec.version, tag, digest, &held.collect::<Vec<_>>())?;
    Some(Finding::new("Drifted", true, "TagMoved", message))
}

fn findings(version: &ModelVersion, plan: &Plan, ready_nodes: usize) -> Vec<Finding> {
    let tag = version.tag();
    match &plan.digest {
        Ok(digest) if ready_nodes > 0 => {
            let nodes =
                if ready_nodes == 1 { "1 ready node holds".into() } else { format!("{ready_nodes} ready nodes hold") };
            vec![Finding::new(READY, true, "Resolved", format!("{nodes} {digest}"))]
        }
        Ok(_) if !plan.is_kept => {
            let message = "other versions took its place, more of them than its deployment's rollbackWindow keeps, so \
                           nodes don't have it any more; asked for again, it comes back";
            vec![Finding::new(READY, true, "Archived", message)]
        }
        Ok(digest) => {
            let message = format!(
                "no ready node holds {digest}: create a ModelPull for {tag}, or check that it still has this digest"
            );
            vec![
                Finding::new(READY, false, "NotOnAnyNode", message.clone()),
                Finding::new(RECONCILING, true, "NotOnAnyNode", message),
            ]
        }
        Err(Unresolved::NowhereYet) => {
            let message = format!("no ready node holds {tag} yet: create a ModelPull for it");
            vec![
                Finding::new(READY, false, "TagNotFound", message.clone()),
                Finding::new(RECONCILING, true, "TagNotFound", message),
            ]
        }
        Err(Unresolved::Lineage(fault)) => bad_parent(version, fault),
        Err(Unresolved::Taken { by }) => {
            let message = format!("ModelVersion {by} is this version already: delete one of the two");
            vec![
                Finding::new(READY, false, "VersionTaken", message.clone()),
                Finding::new(STALLED, true, "VersionTaken", message),
            ]
        }
        Err(Unresolved::DigestsDiffer) => {
            let message = format!(
                "nodes hold different digests under {tag}: name one in spec.source.ollama.digest of another version"
            );
            vec![
                Finding::new(READY, false, "DigestsDiffer", message.clone()),
                Finding::new(STALLED, true, "DigestsDiffer", message),
            ]
        }
    }
}
