//! What people see of a version: pure.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    audit::audit,
    plan::{Plan, Unresolved},
};
use crate::{
    api::{HasConditions, Lifecycle, ModelDeployment, ModelVersion, ModelVersionStatus, OllamaNode},
    domain::conditions::{self, Finding, READY, RECONCILING, STALLED},
};

/// The status that follows from a plan.
pub fn status(
    version: &ModelVersion,
    plan: &Plan,
    nodes: &[Arc<OllamaNode>],
    deployments: &[Arc<ModelDeployment>],
    now: Timestamp,
) -> ModelVersionStatus {
    let digest = plan.digest.clone().ok();
    let holds = |node: &&Arc<OllamaNode>| {
        digest.as_ref().is_some_and(|digest| node.usable().is_ok() && node.holds(&plan.alias, digest).is_some())
    };
    let ready_nodes = nodes.iter().filter(holds).count();
    let (lifecycle, weight) = lifecycle(version, deployments);
    ModelVersionStatus {
        observed_generation: version.metadata.generation,
        conditions: conditions::merge(
            version.conditions(),
            findings(version, plan, ready_nodes),
            version.metadata.generation,
            now,
        ),
        lifecycle,
        weight,
        alias: digest.is_some().then(|| plan.alias.clone()),
        digest,
        ready_nodes: ready_nodes as i64,
        audit: audit(version, deployments),
    }
}

fn findings(version: &ModelVersion, plan: &Plan, ready_nodes: usize) -> Vec<Finding> {
    let tag = version.tag();
    match &plan.digest {
        Ok(digest) if ready_nodes > 0 => {
            let nodes =
                if ready_nodes == 1 { "1 ready node holds".into() } else { format!("{ready_nodes} ready nodes hold") };
            vec![Finding::new(READY, true, "Resolved", format!("{nodes} {digest}"))]
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

/// The place that the deployment of this model gives the version.
pub fn lifecycle(version: &ModelVersion, deployments: &[Arc<ModelDeployment>]) -> (Lifecycle, u8) {
    let own = &version.spec.version;
    let states = deployments
        .iter()
        .filter(|deployment| deployment.spec.model == version.spec.model)
        .filter_map(|deployment| Some(&deployment.status.as_ref()?.rollout));
    let mut place = (Lifecycle::NotDeployed, 0);
    for state in states {
        if let Some(stable) = state.stable.as_ref().filter(|side| side.release.version == *own) {
            return (Lifecycle::Deployed, stable.weight);
        }
        if let Some(canary) = state.canary.as_ref().filter(|canary| canary.release.version == *own) {
            return (Lifecycle::Canary, canary.weight);
        }
        if state.history.iter().any(|entry| entry.release.version == *own) {
            place.0 = Lifecycle::Archived;
        }
    }
    place
}
