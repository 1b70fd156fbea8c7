//! What people see of a pull: pure.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{observe::Observed, plan::Plan};
use crate::{
    api::{HasConditions, ModelPull, ModelPullStatus, NodePull, Resolved, UpdatePolicy},
    domain::{
        conditions::{self, ConditionStatus, Finding, READY, RECONCILING, STALLED},
        pull::{self, MAX_LISTED_NODES, NodePhase, Phase, Stage, elapsed},
    },
};

/// Status writes of one object are at least this far apart, unless its phase changes.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);

/// So many nodes are named where digests differ.
const NAMED: usize = 3;
/// Digits of a digest as `ollama ls` shows it.
const ID_DIGITS: usize = 12;

/// The status that follows from a plan.
pub fn status(object: &ModelPull, plan: &Plan, observed: &Observed, now: Timestamp) -> ModelPullStatus {
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
        resolved: resolved(object, plan, observed),
        refresh: plan.refresh.clone(),
        nodes: worst_first(plan.nodes.clone()),
    };
    let overdue = not_ready_for(object, now).is_some_and(|passed| passed >= object.spec.timeout.0);
    let findings = findings(object, &status, plan, overdue);
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

fn resolved(object: &ModelPull, plan: &Plan, observed: &Observed) -> Option<Resolved> {
    let follows = object.spec.update_policy == UpdatePolicy::Always || observed.nodes.iter().any(|seen| seen.refreshes);
    let is_decided = object.spec.digest.is_some() || follows;
    let held = || plan.nodes.iter().map(|node| node.digest.as_str()).find(|digest| !digest.is_empty());
    let target = plan.target.as_ref();
    let digest = match target {
        Some(target) if is_decided => &target.digest,
        _ => held().or(target.map(|target| target.digest.as_str()))?,
    };
    let known = target.filter(|target| target.digest == digest);
    let on_nodes = observed.nodes.iter().find_map(|seen| {
        let listed = seen.node.model(&object.spec.model).filter(|model| model.digest == digest);
        match (listed, seen.attempt.as_ref().map(|attempt| &attempt.stage)) {
            (Some(model), _) => Some(model.size_bytes),
            (_, Some(Stage::Done { digest: done, size_bytes, .. })) if done == digest => Some(*size_bytes),
            _ => None,
        }
    });
    Some(Resolved {
        tag: object.spec.model.clone(),
        digest: digest.into(),
        id: digest.trim_start_matches("sha256:").chars().take(ID_DIGITS).collect(),
        upstream_digest: known.map(|known| known.upstream_digest.clone()).unwrap_or_default(),
        size_bytes: on_nodes.or(known.map(|known| known.size_bytes))?,
    })
}

fn worst_first(mut nodes: Vec<NodePull>) -> Vec<NodePull> {
    nodes.sort_by(|a, b| (a.phase, a.percent, &a.node).cmp(&(b.phase, b.percent, &b.node)));
    nodes.truncate(MAX_LISTED_NODES);
    nodes
}

fn findings(object: &ModelPull, status: &ModelPullStatus, plan: &Plan, overdue: bool) -> Vec<Finding> {
    let model = &object.spec.model;
    let count = format!("{} of {} nodes have {model}", status.ready_nodes, status.desired_nodes);
    let worst = status.nodes.first().filter(|node| !node.message.is_empty() && node.phase != NodePhase::Ready);
    let detail = worst.map(|node| format!("; {}: {}", node.node, node.message)).unwrap_or_default();
    let (reason, message) = match status.phase {
        Phase::Ready => ("Present", format!("{count}{}", unchecked(object, plan))),
        Phase::Suspended => ("Suspended", format!("{count}; held by spec.suspend")),
        Phase::Pending if status.desired_nodes == 0 => {
            ("NoNodes", "spec.nodeSelector picks no OllamaNode of this namespace".into())
        }
        Phase::Pending => ("Waiting", format!("{count}{detail}")),
        Phase::Pulling => ("Pulling", format!("{count}{}", pulling(status))),
        Phase::Degraded => ("NotOnAllNodes", format!("{count}{detail}")),
        Phase::Failed => {
            let reason = worst.map(|node| node.reason.as_str()).filter(|reason| !reason.is_empty());
            (reason.unwrap_or("PullFailed"), format!("{count}{detail}"))
        }
    };
    let mut findings = vec![Finding::new(READY, status.phase == Phase::Ready, reason, message.clone())];
    findings.extend(differing(model, &plan.nodes));
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

/// That a tag which is followed could not be looked up, though every node has what it stood for.
fn unchecked(object: &ModelPull, plan: &Plan) -> String {
    match &plan.unchecked {
        Some(why) if object.spec.update_policy == UpdatePolicy::Always => {
            format!("; the tag could not be looked up again: {why}")
        }
        _ => String::new(),
    }
}

/// Names the nodes that hold something else than most do.
fn differing(model: &str, nodes: &[NodePull]) -> Option<Finding> {
    let mut by_digest: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in nodes.iter().filter(|node| !node.digest.is_empty()) {
        by_digest.entry(&node.digest).or_default().push(&node.node);
    }
    let different = by_digest.len();
    let usual = by_digest.iter().max_by_key(|(_, nodes)| nodes.len()).map(|(digest, _)| *digest)?;
    by_digest.remove(usual);
    let others: Vec<&str> = by_digest.into_values().flatten().collect();
    if others.is_empty() {
        return None;
    }
    let more = others.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let names = others[..others.len().min(NAMED)].join(", ");
    let message = format!(
        "nodes hold {different} different digests under {model}, not {usual} do {names}{more}: delete it where it is \
         outdated, or pin a digest"
    );
    Some(Finding::new("DigestsDiffer", true, "DigestsDiffer", message))
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
    // Somebody waits to hear of a request.
    if written.refresh != next.refresh
        || written.phase != next.phase
        || written.observed_generation != next.observed_generation
    {
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
