//! What to do on each node, and where the pull stands there: pure.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    observe::{Observed, Seen},
    refresh,
};
use crate::{
    api::{DeletionPolicy, ModelPull, NodePull, Refresh, UpdatePolicy},
    domain::{
        model_name::ModelName,
        pull::{self, Action, Answer, Attempt, Decision, NodePhase, NodeView, Source, Stage, Target, Wish, elapsed},
    },
};

/// How often a pull under way is looked at.
const WHILE_PULLING: Duration = Duration::from_secs(1);

/// How often one that waits for its turn is looked at, though its start is told.
const WHILE_WAITING: Duration = Duration::from_secs(30);

/// What follows from what was seen; `steps` and `nodes` are in the order of the observations.
pub struct Plan {
    /// What to do.
    pub steps: Vec<Step>,
    /// Where it stands.
    pub nodes: Vec<NodePull>,
    /// What the tag stands for, as far as the mirror said.
    pub target: Option<Known>,
    /// Why the mirror did not say, the last time, or why what it said may be outdated.
    pub unchecked: Option<String>,
    /// The request to look the tag up again that was answered last.
    pub refresh: Option<Refresh>,
    /// Whether the mirror is to be asked.
    pub ask: bool,
    /// When to look again.
    pub wake_after: Option<Duration>,
}

/// What to do on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Keep,
    /// Put on record that Drover is about to put the model there.
    Record,
    /// Let an attempt wait for its turn.
    Start,
    /// Break off the attempt, or forget what it came to: the node's own list says so by now, and a model that vanishes
    /// later is pulled again.
    Release,
}

/// What the tag stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The digest as nodes report it.
    pub digest: String,
    /// The registry's own.
    pub upstream_digest: String,
    /// Bytes of all layers.
    pub size_bytes: i64,
}

/// Decides node by node.
pub fn plan(pull: &ModelPull, observed: &Observed, now: Timestamp) -> Plan {
    let target = target(pull, observed);
    let grant = observed.mirror.as_ref().map(|(_, grant)| grant);
    let failure = grant.and_then(|grant| grant.failure.clone());
    let stale = grant.and_then(|grant| grant.known.as_ref()).and_then(|known| known.stale.clone());
    let decide = |seen: &Seen| {
        let source = if seen.is_direct {
            Source::Direct { due: seen.refreshes || seen.next_check.is_some_and(|at| at <= now) }
        } else {
            Source::Mirror {
                target: target
                    .as_ref()
                    .map(|known| Target { digest: &known.digest, upstream_digest: &known.upstream_digest }),
                granted: grant.is_some_and(|grant| grant.is_fresh),
                failure: failure.as_ref(),
            }
        };
        decide(pull, seen, source, now)
    };
    let decided: Vec<_> = observed.nodes.iter().map(decide).collect();
    let waits = observed.nodes.iter().zip(&decided).filter_map(|(seen, (decision, _))| match decision.action {
        Action::WaitUntil(at) => Some(elapsed(now, at)),
        Action::Ask => Some(WHILE_PULLING),
        Action::Start => Some(WHILE_WAITING),
        _ if seen.is_at(|stage| matches!(stage, Stage::Running(_))) => Some(WHILE_PULLING),
        _ if seen.is_at(|stage| matches!(stage, Stage::Queued(_))) => Some(WHILE_WAITING),
        _ => seen.next_check.map(|at| elapsed(now, at)),
    });
    let needed = decided.iter().any(|(decision, _)| decision.action == Action::Ask);
    let (ask, asks_at) = asking(pull, observed, needed, now);
    let waits = waits.chain(asks_at.into_iter().map(|at| elapsed(now, at).max(WHILE_PULLING)));
    let steps = observed.nodes.iter().zip(&decided).map(|(seen, (d, _))| step(pull, seen, d)).collect();
    let nodes: Vec<NodePull> = decided.iter().map(|(_, node)| node.clone()).collect();
    Plan {
        wake_after: waits.min(),
        ask,
        steps,
        refresh: refresh::answered(pull, observed, &nodes, now),
        nodes,
        unchecked: failure.map(|failure| failure.sentence()).or(stale),
        target,
    }
}

/// Whether the mirror is to be asked now, which a node may need, and when it will be if nothing happens before.
fn asking(pull: &ModelPull, observed: &Observed, needed: bool, now: Timestamp) -> (bool, Option<Timestamp>) {
    let grant = observed.mirror.as_ref().map(|(_, grant)| grant);
    let retry_at = grant.and_then(|grant| grant.failure.as_ref()).map(|failure| failure.retry_at);
    let next_check = grant.and_then(|grant| grant.next_check).filter(|_| !pull.spec.suspend);
    let next_check = next_check.max(next_check.and(retry_at));
    let is_mirrored = observed.nodes.iter().any(|seen| !seen.is_direct) && !pull.spec.suspend;
    let is_refreshed = is_mirrored && matches!(&observed.refresh, Some(Answer::Awaited | Answer::Refused(_)));
    let next_try = is_refreshed.then(|| retry_at.unwrap_or(now));
    let may_ask = retry_at.is_none_or(|at| at <= now);
    let is_due = next_check.is_some_and(|at| at <= now);
    (may_ask && (needed || is_refreshed || is_due), [next_check, next_try].into_iter().flatten().min())
}

/// What the mirror said last, in this process or an earlier one.
fn target(pull: &ModelPull, observed: &Observed) -> Option<Known> {
    let (_, grant) = observed.mirror.as_ref()?;
    if let Some(known) = &grant.known {
        return Some(Known {
            digest: known.digest.clone(),
            upstream_digest: known.upstream_digest.clone(),
            size_bytes: known.size_bytes,
        });
    }
    let resolved = pull.status.as_ref()?.resolved.as_ref()?;
    let is_ours = resolved.tag == pull.spec.model && !resolved.upstream_digest.is_empty();
    is_ours.then(|| Known {
        digest: resolved.digest.clone(),
        upstream_digest: resolved.upstream_digest.clone(),
        size_bytes: resolved.size_bytes,
    })
}

fn step(pull: &ModelPull, seen: &Seen, decision: &Decision) -> Step {
    let listed = seen.node.model(&pull.spec.model).map(|model| model.digest.as_str());
    match decision.action {
        Action::Cancel => Step::Release,
        // Its deletion relies on the record, also when the controller dies in between.
        Action::Start
            if pull.spec.deletion_policy == DeletionPolicy::Delete
                && listed.is_none()
                && !seen.node.is_pulled(&pull.spec.model) =>
        {
            Step::Record
        }
        Action::Start => Step::Start,
        Action::Keep if is_over(pull, seen, decision, listed) => Step::Release,
        Action::Keep | Action::Ask | Action::WaitUntil(_) => Step::Keep,
    }
}

fn is_over(pull: &ModelPull, seen: &Seen, decision: &Decision, listed: Option<&str>) -> bool {
    let Some(attempt) = &seen.attempt else { return false };
    let follows = pull.spec.update_policy == UpdatePolicy::Always || seen.refreshes;
    let failed_before = matches!(attempt.stage, Stage::Failed) && decision.phase == NodePhase::Ready && !follows;
    (attempt.is_listed(listed) && is_told(pull, seen, attempt, listed)) || failed_before
}

/// Whether the status says of what the node holds that it came past the mirror, if it did and the status has room for
/// that. Said while it was coming is not enough: nobody would say it again.
fn is_told(pull: &ModelPull, seen: &Seen, attempt: &Attempt, listed: Option<&str>) -> bool {
    let Some(bypass) = &attempt.bypass else { return true };
    let lists_all = pull.status.as_ref().is_none_or(|status| status.desired_nodes <= pull::MAX_LISTED_NODES as i64);
    let says = |earlier: &NodePull| earlier.message == *bypass && Some(earlier.digest.as_str()) == listed;
    !lists_all || earlier(pull, &seen.node.name_any()).is_some_and(says)
}

fn decide(pull: &ModelPull, seen: &Seen, source: Source<'_>, now: Timestamp) -> (Decision, NodePull) {
    let spec = &pull.spec;
    let view = NodeView {
        unusable: seen.node.usable().err(),
        listed: seen.node.model(&spec.model).map(|model| model.digest.as_str()),
        attempt: seen.attempt.as_ref(),
    };
    let wish = Wish {
        pin: spec.digest.as_deref(),
        follow: spec.update_policy == UpdatePolicy::Always || seen.refreshes,
        suspended: spec.suspend,
        yields: seen.yields.as_deref(),
        has_login: spec.pull_secret.is_some(),
        source,
    };
    let decision = pull::decide(&view, &wish, now);
    let mut node = NodePull {
        node: seen.node.name_any(),
        phase: decision.phase,
        completed_bytes: None,
        total_bytes: None,
        percent: None,
        bytes_per_second: None,
        remaining_seconds: None,
        digest: String::new(),
        adopted: false,
        reason: decision.fault.map(|fault| fault.reason().into()).unwrap_or_default(),
        message: decision.message.clone(),
    };
    match (decision.phase, seen.attempt.as_ref().map(|attempt| &attempt.stage)) {
        (NodePhase::Pulling, Some(Stage::Running(progress))) => {
            let (completed, total) = progress.bytes();
            node.completed_bytes = Some(completed);
            node.total_bytes = total;
            node.percent = progress.percent();
            node.bytes_per_second = progress.bytes_per_second();
            node.remaining_seconds = progress.remaining_seconds();
            if node.message.is_empty() {
                node.message = without_digest(progress.status());
            }
        }
        (NodePhase::Ready, _) => {
            node.percent = Some(100);
            node.digest = pull::held(view.listed, view.attempt).unwrap_or_default().into();
            let put = seen.is_put || seen.node.is_pulled(&spec.model);
            node.adopted =
                view.listed.is_some() && view.attempt.is_none() && !put || was_adopted(pull, &node.node, put);
            if node.message.is_empty() {
                node.message = earlier_bypass(pull, &node);
            }
        }
        _ => {}
    }
    (decision, node)
}

/// A node that had the model before Drover stays one when Drover renews it.
fn was_adopted(pull: &ModelPull, node: &str, put: bool) -> bool {
    earlier(pull, node).is_some_and(|earlier| earlier.adopted) && !put
}

/// That the mirror was passed by is said as long as the node holds what came that way.
fn earlier_bypass(pull: &ModelPull, node: &NodePull) -> String {
    let said = earlier(pull, &node.node).filter(|earlier| earlier.digest == node.digest);
    said.map(|earlier| earlier.message.clone()).filter(|message| message.starts_with("directly:")).unwrap_or_default()
}

fn earlier<'a>(pull: &'a ModelPull, node: &str) -> Option<&'a NodePull> {
    let status = pull.status.as_ref().filter(|status| {
        status.resolved.as_ref().is_none_or(|resolved| ModelName::same(&resolved.tag, &pull.spec.model))
    })?;
    status.nodes.iter().find(|earlier| earlier.node == node)
}

/// `pulling 0123456789ab` without the layer: it changes with each layer and says nothing to people.
fn without_digest(status: &str) -> String {
    if status.starts_with("pulling ") && status != "pulling manifest" { "pulling".into() } else { status.into() }
}
