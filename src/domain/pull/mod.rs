//! Pulling a model onto a node: what the progress lines add up to, what an error means, what to do next.

mod fault;
mod progress;

pub use fault::Fault;
pub use progress::{Line, Progress, STALL_AFTER, percent};

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backoff;

/// The status names at most this many nodes.
pub const MAX_LISTED_NODES: usize = 50;
const NODE_AWAY_WAIT: Duration = Duration::from_secs(10);
const WRITE_AT_LEAST_EVERY: Duration = Duration::from_secs(10);
const WRITE_AT_STEP: i64 = 5;

/// How long to wait after `failures` failed attempts in a row, the last one by `fault`. A node that comes back soon is
/// not left waiting for minutes.
pub fn retry_after(fault: Fault, failures: u32, first: Duration, ceiling: Duration, jitter: f64) -> Duration {
    let ceiling = if fault == Fault::NodeAway { ceiling.min(NODE_AWAY_WAIT) } else { ceiling };
    backoff::delay(failures, first, ceiling, jitter)
}

/// Where a pull stands on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum NodePhase {
    /// Failed; tried again later.
    Failed,
    /// Waits for the node, or for another pull there.
    Pending,
    /// Bytes are arriving.
    Pulling,
    /// The node has the model.
    Ready,
}

/// Where a pull stands as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Nothing has started yet.
    #[default]
    Pending,
    /// At least one node is pulling.
    Pulling,
    /// Every node has the model.
    Ready,
    /// Some nodes have the model, on others it failed or can't start.
    Degraded,
    /// It failed on every node that lacks the model, and no node has it.
    Failed,
    /// Held by `spec.suspend`.
    Suspended,
}

/// The phase of the whole from the phases of the nodes.
pub fn phase(nodes: &[NodePhase], suspended: bool) -> Phase {
    let count = |phase| nodes.iter().filter(|p| **p == phase).count();
    let ready = count(NodePhase::Ready);
    if ready == nodes.len() && ready > 0 {
        Phase::Ready
    } else if suspended {
        Phase::Suspended
    } else if count(NodePhase::Pulling) > 0 {
        Phase::Pulling
    } else if ready > 0 {
        Phase::Degraded
    } else if count(NodePhase::Failed) > 0 {
        Phase::Failed
    } else {
        Phase::Pending
    }
}

/// How an attempt on one node stands, as its task reports it.
#[derive(Clone, Debug, PartialEq)]
pub enum Attempt {
    /// Waits for the node's lock.
    Queued,
    /// Under way.
    Running(Progress),
    /// Finished: the node holds the model with this digest.
    Done {
        /// The digest the node reported right after the pull.
        digest: String,
        /// Bytes on its disk.
        size_bytes: i64,
    },
    /// Failed.
    Failed {
        /// What happened.
        fault: Fault,
        /// In Ollama's or the connection's own words.
        message: String,
        /// How many attempts in a row have failed.
        failures: u32,
        /// When the next attempt is due.
        retry_at: Timestamp,
    },
}

/// What a pull knows of one node.
#[derive(Clone, Debug)]
pub struct NodeView<'a> {
    /// Why the node can't be used now; `None` when it can.
    pub unusable: Option<&'a str>,
    /// The digest under which the node has the model.
    pub present: Option<&'a str>,
    /// What an attempt there came to.
    pub attempt: Option<&'a Attempt>,
}

/// What to do on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Keep,
    /// Start an attempt.
    Start,
    /// Break off the attempt.
    Cancel,
    /// Look again then.
    WaitUntil(Timestamp),
}

/// What to do on one node and where it stands, from what is seen of it.
pub fn decide(
    view: &NodeView<'_>,
    pin: Option<&str>,
    suspended: bool,
    now: Timestamp,
) -> (Action, NodePhase, Option<String>) {
    let running = matches!(view.attempt, Some(Attempt::Queued | Attempt::Running(_)));
    let done = match view.attempt {
        Some(Attempt::Done { digest, .. }) => Some(digest.as_str()),
        _ => None,
    };
    let have = view.present.or(done);
    match (have, pin) {
        (Some(have), Some(pin)) if have != pin => {
            let message = format!(
                "the node has {have}, the pin is {pin}: a pinned pull needs a mirror, or the tag would be overwritten unverified"
            );
            return (Action::Keep, NodePhase::Failed, Some(message));
        }
        (None, Some(_)) => {
            let message =
                "a pinned pull needs a mirror, or the tag would be stored unverified: pull without digest first";
            return (Action::Keep, NodePhase::Failed, Some(message.into()));
        }
        (Some(_), _) if !running => return (Action::Keep, NodePhase::Ready, None),
        _ => {}
    }
    if suspended {
        let action = if running { Action::Cancel } else { Action::Keep };
        return (action, NodePhase::Pending, Some("held by spec.suspend".into()));
    }
    match view.attempt {
        Some(Attempt::Running(_)) => (Action::Keep, NodePhase::Pulling, None),
        Some(Attempt::Queued) => (Action::Keep, NodePhase::Pending, Some("waits for another pull on this node".into())),
        Some(Attempt::Failed { fault, message, failures, retry_at }) if now < *retry_at => {
            let message = format!("{message}: {} (attempt {failures} failed)", fault.advice());
            (Action::WaitUntil(*retry_at), NodePhase::Failed, Some(message))
        }
        _ => match view.unusable {
            Some(why) => (Action::Keep, NodePhase::Pending, Some(format!("the node is not ready: {why}"))),
            None => (Action::Start, NodePhase::Pending, None),
        },
    }
}

/// Whether moved counters are worth a status write: after 5 percent or 10 seconds.
pub fn is_worth_writing(written: Option<i64>, percent: Option<i64>, since_written: Duration) -> bool {
    since_written >= WRITE_AT_LEAST_EVERY
        || match (written, percent) {
            (Some(written), Some(percent)) => (percent - written).abs() >= WRITE_AT_STEP,
            (written, percent) => written != percent,
        }
}

/// The time from `from` to `to`; zero when the clock was set back in between.
pub fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
