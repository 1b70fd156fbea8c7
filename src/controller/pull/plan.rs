//! What to do on each node, and where the pull stands there: pure.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::observe::Seen;
use crate::{
    api::{ModelPullSpec, NodePull},
    domain::pull::{self, Action, Attempt, NodePhase, NodeView, elapsed},
};

/// How often a pull under way is looked at.
const WHILE_PULLING: Duration = Duration::from_secs(1);

/// What follows from what was seen; `actions` and `nodes` are in the order of the observations.
pub struct Plan {
    /// What to do.
    pub actions: Vec<Action>,
    /// Where it stands.
    pub nodes: Vec<NodePull>,
    /// When to look again.
    pub wake_after: Option<Duration>,
}

/// Decides node by node.
pub fn plan(spec: &ModelPullSpec, seen: &[Seen], now: Timestamp) -> Plan {
    let decided: Vec<_> = seen.iter().map(|seen| decide(spec, seen, now)).collect();
    let wake_after = seen.iter().zip(&decided).filter_map(|(seen, (action, _))| match (action, &seen.attempt) {
        (Action::WaitUntil(at), _) => Some(elapsed(now, *at)),
        (Action::Start, _) | (_, Some(Attempt::Queued | Attempt::Running(_))) => Some(WHILE_PULLING),
        _ => None,
    });
    Plan {
        wake_after: wake_after.min(),
        actions: decided.iter().map(|(action, _)| *action).collect(),
        nodes: decided.into_iter().map(|(_, node)| node).collect(),
    }
}

fn decide(spec: &ModelPullSpec, seen: &Seen, now: Timestamp) -> (Action, NodePull) {
    let present = seen.node.model(&spec.model);
    let view = NodeView {
        unusable: seen.node.usable().err(),
        present: present.map(|model| model.digest.as_str()),
        attempt: seen.attempt.as_ref(),
    };
    let (action, phase, message) = pull::decide(&view, spec.digest.as_deref(), spec.suspend, now);
    let mut node = NodePull {
        node: seen.node.name_any(),
        phase,
        completed_bytes: None,
        total_bytes: None,
        percent: None,
        bytes_per_second: None,
        remaining_seconds: None,
        digest: String::new(),
        message: message.unwrap_or_default(),
    };
    match (phase, &seen.attempt) {
        (NodePhase::Pulling, Some(Attempt::Running(progress))) => {
            let (completed, total) = progress.bytes();
            node.completed_bytes = Some(completed);
            node.total_bytes = total;
            node.percent = progress.percent();
            node.bytes_per_second = progress.bytes_per_second();
            node.remaining_seconds = progress.remaining_seconds();
            node.message = without_digest(progress.status());
        }
        (NodePhase::Ready, attempt) => {
            node.percent = Some(100);
            let done = match attempt {
                Some(Attempt::Done { digest, .. }) => Some(digest.as_str()),
                _ => None,
            };
            node.digest = view.present.or(done).unwrap_or_default().into();
        }
        _ => {}
    }
    (action, node)
}

/// `pulling 0123456789ab` without the layer: it changes with each layer and says nothing to people.
fn without_digest(status: &str) -> String {
    if status.starts_with("pulling ") && status != "pulling manifest" { "pulling".into() } else { status.into() }
}
