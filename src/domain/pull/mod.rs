//! Pulling a model onto a node: what the progress lines add up to, what an error means, what to do next.

mod attempt;
mod fault;
mod progress;
mod queue;
mod refresh;

pub use attempt::{Action, Attempt, Decision, Failure, NodeView, Source, Stage, Target, Wish, decide, held};
pub use fault::Fault;
pub use progress::{Line, Progress, STALL_AFTER, percent};
pub use queue::{Hold, Queue, Want};
pub use refresh::{Answer, Asked, Lookup, lookup};

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backoff;

/// The status names at most this many nodes.
pub const MAX_LISTED_NODES: usize = 50;
const AWAY_WAIT: Duration = Duration::from_secs(10);
const LONGEST_ASKED_WAIT: Duration = Duration::from_secs(3600);
const WRITE_AT_LEAST_EVERY: Duration = Duration::from_secs(10);
const WRITE_AT_STEP: i64 = 5;

/// How long to wait after `failures` failed attempts in a row, the last one by `fault`. A node or mirror that comes back
/// soon is not left waiting for minutes, and whoever asked to come back later is not bothered before, within reason.
pub fn retry_after(
    fault: Fault,
    failures: u32,
    (first, ceiling): (Duration, Duration),
    asked: Option<Duration>,
    jitter: f64,
) -> Duration {
    let is_away = matches!(fault, Fault::NodeAway | Fault::MirrorUnreachable);
    let wait = backoff::delay(failures, first, if is_away { ceiling.min(AWAY_WAIT) } else { ceiling }, jitter);
    wait.max(asked.unwrap_or_default().min(ceiling.max(LONGEST_ASKED_WAIT)))
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
