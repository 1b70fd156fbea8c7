//! What people see of a pull: pure.

use std::time::Duration;

use jiff::Timestamp;

use super::{observe::Seen, plan::Plan};
use crate::{
    api::{HasConditions, ModelPull, ModelPullStatus, NodePull, Resolved},
    domain::{
        conditions::{self, ConditionStatus, Finding, READY, RECONCILING, STALLED},
        pull::{self, Attempt, MAX_LISTED_NODES, NodePhase, Phase, elapsed},
    },
};

/// Status writes of one object are at least this far apart, unless its phase changes.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);

/// The status that follows from a plan.
pub fn status(object: &ModelPull, plan: &Plan, seen: &[Seen], now: Timestamp) -> ModelPullStatus {
    let phases: Vec<NodePhase> = plan.nodes.iter().map(|node| node.phase).collect();
    let phase = pull::phase(&phases, object.spec.suspend);
    let ready = phases.iter().filter(|phase| **phase == NodePhase::Ready).count();
    let mut status = ModelPullStatus {
        observed_generation: object.metadata.generation,
        conditions: Vec::new(),
        phase,
        progress: progress(&plan.nodes),
        desired_nodes: phases.len() as i64,
        ready_nodes: ready as i64,
        resolved: resolved(object, &plan.nodes, seen),
        nodes: worst_first(plan.nodes.clone()),
    };
    let overdue = not_ready_for(object, now).is_some_and(|passed| passed >= object.spec.timeout.0);
    let findings = findings(object, &status, overdue);
    status.conditions = conditions::merge(object.conditions(), findings, object.metadata.generation, now);
    status
}

/// When the pull will have been without success for its `timeout`; `None` when it has, or when it isn't waiting.
pub fn times_out_after(object: &ModelPull, status: &ModelPullStatus, now: Timestamp) -> Option<Duration> {
    let waiting = matches!(status.phase, Phase::Pending | Phase::Pulling | Phase::Degraded | Phase::Failed);
    let passed = not_ready_for(object, now).unwrap_or_default();
    object.spec.timeout.0.checked_sub(passed).filter(|left| waiting && !left.is_zero())
}

/// How long the object has been seen without success.
fn not_ready_for(object: &ModelPull, now: Timestamp) -> Option<Duration> {
    let ready = object.conditions().iter().find(|condition| condition.type_ == READY)?;
    (ready.status != ConditionStatus::True).then(|| elapsed(ready.last_transition_time, now))
}

fn progress(nodes: &[NodePull]) -> Option<i64> {
    let known: Vec<i64> = nodes.iter().filter_map(|node| node.percent).collect();
    let sum: i64 = known.iter().sum();
    (!known.is_empty()).then(|| sum / nodes.len() as i64)
}

fn resolved(object: &ModelPull, nodes: &[NodePull], seen: &[Seen]) -> Option<Resolved> {
    let digest = nodes.iter().map(|node| &node.digest).find(|digest| !digest.is_empty())?;
    let size_bytes = seen.iter().find_map(|seen| match (seen.node.model(&object.spec.model), &seen.attempt) {
        (Some(model), _) if model.digest == *digest => Some(model.size_bytes),
        (_, Some(Attempt::Done { digest: done, size_bytes })) if done == digest => Some(*size_bytes),
        _ => None,
    })?;
    Some(Resolved { tag: object.spec.model.clone(), digest: digest.clone(), size_bytes })
}

fn worst_first(mut nodes: Vec<NodePull>) -> Vec<NodePull> {
    nodes.sort_by(|a, b| (a.phase, a.percent, &a.node).cmp(&(b.phase, b.percent, &b.node)));
    nodes.truncate(MAX_LISTED_NODES);
    nodes
}

fn findings(object: &ModelPull, status: &ModelPullStatus, overdue: bool) -> Vec<Finding> {
    let model = &object.spec.model;
    let count = format!("{} of {} nodes have {model}", status.ready_nodes, status.desired_nodes);
    let worst = status.nodes.first().filter(|node| !node.message.is_empty() && node.phase != NodePhase::Ready);
    let detail = worst.map(|node| format!("; {}: {}", node.node, node.message)).unwrap_or_default();
    let (reason, message) = match status.phase {
        Phase::Ready => ("Present", count),
        Phase::Suspended => ("Suspended", format!("{count}; held by spec.suspend")),
        Phase::Pending if status.desired_nodes == 0 => {
            ("NoNodes", "spec.nodeSelector picks no OllamaNode of this namespace".into())
        }
        Phase::Pending => ("Waiting", format!("{count}{detail}")),
        Phase::Pulling => ("Pulling", format!("{count}{}", pulling(status))),
        Phase::Degraded => ("NotOnAllNodes", format!("{count}{detail}")),
        Phase::Failed => ("PullFailed", format!("{count}{detail}")),
    };
    let digests: std::collections::BTreeSet<_> =
        status.nodes.iter().map(|node| &node.digest).filter(|digest| !digest.is_empty()).collect();
    let mut findings = vec![Finding::new(READY, status.phase == Phase::Ready, reason, message.clone())];
    if digests.len() > 1 {
        let message =
            format!("nodes hold {} different digests under {model}: delete it where it is outdated", digests.len());
        findings.push(Finding::new("DigestsDiffer", true, "DigestsDiffer", message));
    }
    let waiting = !matches!(status.phase, Phase::Ready | Phase::Suspended);
    if waiting && (overdue || matches!(status.phase, Phase::Failed | Phase::Degraded)) {
        let reason = if overdue { "TimedOut" } else { reason };
        let late = if overdue { format!("not Ready within {}: ", object.spec.timeout) } else { String::new() };
        findings.push(Finding::new(STALLED, true, reason, format!("{late}{message}")));
    } else if waiting {
        findings.push(Finding::new(RECONCILING, true, reason, message));
    }
    findings
}

fn pulling(status: &ModelPullStatus) -> String {
    let names: Vec<&str> =
        status.nodes.iter().filter(|n| n.phase == NodePhase::Pulling).map(|n| n.node.as_str()).take(3).collect();
    format!("; pulling on {}", names.join(", "))
}

/// Whether a status is to be written.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing changed.
    Never,
    /// Not yet.
    After(Duration),
    /// Yes.
    Now,
}

/// Whether `next` is to be written over `written`, the last write being `since` ago.
pub fn is_due(written: Option<&ModelPullStatus>, next: &ModelPullStatus, since: Duration) -> Due {
    let Some(written) = written else { return Due::Now };
    if written == next {
        return Due::Never;
    }
    if written.phase != next.phase || written.observed_generation != next.observed_generation {
        return Due::Now;
    }
    if let Some(wait) = BETWEEN_WRITES.checked_sub(since).filter(|wait| !wait.is_zero()) {
        return Due::After(wait);
    }
    let only_counters = without_counters(written) == without_counters(next);
    if only_counters && !pull::is_worth_writing(written.progress, next.progress, since) {
        return Due::After(BETWEEN_WRITES);
    }
    Due::Now
}

fn without_counters(status: &ModelPullStatus) -> ModelPullStatus {
    let mut status = status.clone();
    status.progress = None;
    for node in &mut status.nodes {
        node.completed_bytes = None;
        node.total_bytes = None;
        node.percent = None;
        node.bytes_per_second = None;
        node.remaining_seconds = None;
    }
    status.nodes.sort_by(|a, b| a.node.cmp(&b.node));
    status
}
