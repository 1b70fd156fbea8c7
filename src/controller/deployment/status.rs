//! What people see of a deployment: pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    api::{HasConditions, ModelDeployment, ModelDeploymentStatus},
    domain::{
        conditions::{self, Finding, READY, STALLED},
        pull::elapsed,
        rollout::Decision,
    },
};

/// The status that follows from a decision.
pub fn status(object: &ModelDeployment, decision: &Decision, now: Timestamp) -> ModelDeploymentStatus {
    ModelDeploymentStatus {
        observed_generation: object.metadata.generation,
        conditions: conditions::merge(object.conditions(), decision.findings.clone(), object.metadata.generation, now),
        phase: decision.phase,
        rollout: decision.state.clone(),
    }
}

/// The status of a deployment whose model an older one has already.
pub fn refused(object: &ModelDeployment, rival: &str, now: Timestamp) -> ModelDeploymentStatus {
    let message = format!("ModelDeployment {rival} is older and serves the same model: delete one of the two");
    let findings = [READY, "Accepted"].map(|type_| Finding::new(type_, false, "ModelTaken", message.clone()));
    let stalled = Finding::new(STALLED, true, "ModelTaken", message);
    let findings = findings.into_iter().chain([stalled]).collect();
    let earlier = object.status.clone().unwrap_or_default();
    ModelDeploymentStatus {
        observed_generation: object.metadata.generation,
        conditions: conditions::merge(object.conditions(), findings, object.metadata.generation, now),
        ..earlier
    }
}

/// When to ask the gateways again whether the last rollback has arrived: often at first, then seldom.
pub fn ask_again_after(
    status: &ModelDeploymentStatus,
    now: Timestamp,
    [often, seldom]: [Duration; 2],
    often_for: Duration,
) -> Option<Duration> {
    let rollback = status.rollout.last_rollback.as_ref().filter(|rollback| rollback.effective_at.is_none())?;
    Some(if elapsed(rollback.decided_at, now) < often_for { often } else { seldom })
}
