//! Pulling a model onto a node: what the progress lines add up to, what an error means, what to do next.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backoff;

/// A pull whose bytes don't move for this long is broken off and tried again.
pub const STALL_AFTER: Duration = Duration::from_secs(60);
/// The status names at most this many nodes.
pub const MAX_LISTED_NODES: usize = 50;
/// Hashing a big layer is silent for minutes.
const VERIFY_WITHIN: Duration = Duration::from_secs(3600);
const NODE_AWAY_WAIT: Duration = Duration::from_secs(10);
const VERIFYING: &str = "verifying";
const RATE_WINDOW: Duration = Duration::from_secs(5);
const WRITE_AT_LEAST_EVERY: Duration = Duration::from_secs(10);
const WRITE_AT_STEP: i64 = 5;

/// One line of Ollama's `/api/pull` answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Line {
    /// What it is doing.
    pub status: String,
    /// The layer the counters are for.
    pub digest: Option<String>,
    /// The layer's size in bytes.
    pub total: Option<i64>,
    /// The layer's bytes on the node.
    pub completed: Option<i64>,
    /// Set on the last line of a pull that failed (the HTTP status is 200 all the same).
    pub error: Option<String>,
}

impl Line {
    /// How long the next line may take to come.
    pub fn patience(&self) -> Duration {
        if self.status.starts_with(VERIFYING) { VERIFY_WITHIN } else { STALL_AFTER }
    }
}

/// How long to wait after `failures` failed attempts in a row, the last one by `fault`. A node that comes back soon is
/// not left waiting for minutes.
pub fn retry_after(fault: Fault, failures: u32, first: Duration, ceiling: Duration, jitter: f64) -> Duration {
    let ceiling = if fault == Fault::NodeAway { ceiling.min(NODE_AWAY_WAIT) } else { ceiling };
    backoff::delay(failures, first, ceiling, jitter)
}

/// The progress of one attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    layers: BTreeMap<String, (i64, i64)>,
    status: String,
    completed: i64,
    percent: Option<i64>,
    moved_at: Option<Timestamp>,
    window: Option<(Timestamp, i64)>,
    rate: Option<i64>,
}

impl Progress {
    /// Takes in one line that arrived at `now`.
    pub fn fold(&mut self, line: &Line, now: Timestamp) {
        let moved_before = self.completed;
        if let (Some(digest), Some(total)) = (&line.digest, line.total) {
            let layer = self.layers.entry(digest.clone()).or_insert((0, 0));
            layer.0 = total.max(layer.0);
            // A part that failed is counted back by Ollama; what people see never goes back.
            layer.1 = line.completed.unwrap_or(0).max(layer.1).min(layer.0);
        }
        self.completed = self.layers.values().fold(0, |sum, (_, completed)| sum.saturating_add(*completed));
        if self.completed > moved_before || self.status != line.status || self.moved_at.is_none() {
            self.moved_at = Some(now);
        }
        self.status.clone_from(&line.status);
        // Layers are announced one after another, so the total grows; what people see never goes back, and 100 is
        // for a model that is there.
        let (completed, total) = self.bytes();
        self.percent = self.percent.max(percent(completed, total).map(|percent| percent.min(99)));
        self.measure_rate(now);
    }

    fn measure_rate(&mut self, now: Timestamp) {
        let (since, bytes) = *self.window.get_or_insert((now, self.completed));
        let passed = elapsed(since, now);
        if passed >= Duration::from_secs(1) {
            let rate = (self.completed - bytes) as f64 / passed.as_secs_f64();
            self.rate = Some(rate as i64);
        }
        if passed >= RATE_WINDOW {
            self.window = Some((now, self.completed));
        }
    }

    /// Whether no byte moved for [`STALL_AFTER`]. Hashing a big layer is silent for minutes, so verifying never stalls.
    pub fn is_stalled(&self, now: Timestamp) -> bool {
        !self.status.starts_with(VERIFYING) && self.moved_at.is_some_and(|at| elapsed(at, now) >= STALL_AFTER)
    }

    /// What Ollama says it is doing.
    pub fn status(&self) -> &str {
        &self.status
    }

    /// Bytes on the node and, once known, the bytes of the layers announced so far.
    pub fn bytes(&self) -> (i64, Option<i64>) {
        let total = self.layers.values().fold(0_i64, |sum, (total, _)| sum.saturating_add(*total));
        (self.completed, (total > 0).then_some(total))
    }

    /// Percent of the bytes announced so far, 0..=99; `None` before any were.
    pub fn percent(&self) -> Option<i64> {
        self.percent
    }

    /// Bytes a second over the last seconds; `None` before there is anything to measure.
    pub fn bytes_per_second(&self) -> Option<i64> {
        self.rate
    }

    /// Seconds to go at the present rate.
    pub fn remaining_seconds(&self) -> Option<i64> {
        let rate = self.rate.filter(|rate| *rate > 0)?;
        let (completed, total) = self.bytes();
        let missing = total? - completed;
        Some(missing / rate + i64::from(missing % rate != 0))
    }
}

/// Why a pull failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// The registry has no such model or tag.
    NoSuchModel,
    /// The registry can't be reached from the node.
    RegistryUnreachable,
    /// The registry wants a login.
    Unauthorized,
    /// The registry asks to come back later.
    RateLimited,
    /// The node's disk is full.
    NoSpace,
    /// The model needs a newer Ollama.
    NeedsNewerOllama,
    /// The registry speaks plain http and the pull didn't allow it, or the other way round.
    WrongScheme,
    /// A plain OCI registry, which doesn't tell Ollama where a blob is.
    PlainRegistry,
    /// What arrived is not what the manifest names.
    DigestMismatch,
    /// The node can't be reached or broke the connection.
    NodeAway,
    /// No byte moved for a minute.
    Stalled,
    /// Anything else; the message has Ollama's own words.
    Other,
}

/// The first fault one of whose words occurs in Ollama's message is what happened.
const SIGNS: &[(Fault, &[&str])] = &[
    (Fault::NoSpace, &["no space left", "disk quota"]),
    // Before the codes: an address may hold a port that looks like one.
    (Fault::RegistryUnreachable, &["dial tcp"]),
    (Fault::NeedsNewerOllama, &["newer version of ollama", "412"]),
    (Fault::PlainRegistry, &["no location header"]),
    (Fault::DigestMismatch, &["digest mismatch"]),
    (
        Fault::WrongScheme,
        &["server gave http response to https client", "insecure protocol", "first record does not look like a tls"],
    ),
    (Fault::RateLimited, &["429", "too many requests"]),
    (Fault::Unauthorized, &["401", "403", "unauthorized", "denied", "authentication", "realm host"]),
    (Fault::NoSuchModel, &["file does not exist", "404", "manifest unknown", "name unknown", "not found"]),
    (
        Fault::RegistryUnreachable,
        &[
            "no such host",
            "connection refused",
            "i/o timeout",
            "connection reset",
            "unexpected eof",
            "500",
            "502",
            "503",
            "504",
        ],
    ),
];

impl Fault {
    /// What Ollama's error message means.
    pub fn from_message(message: &str) -> Self {
        let message = message.to_ascii_lowercase();
        let says = |sign: &&str| {
            // Status codes must stand alone: digests and sizes are full of digits.
            if sign.bytes().all(|b| b.is_ascii_digit()) {
                message.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == *sign)
            } else {
                message.contains(*sign)
            }
        };
        SIGNS.iter().find(|(_, signs)| signs.iter().any(says)).map_or(Self::Other, |(fault, _)| *fault)
    }

    /// The CamelCase reason for conditions.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoSuchModel => "NoSuchModel",
            Self::RegistryUnreachable => "RegistryUnreachable",
            Self::Unauthorized => "Unauthorized",
            Self::RateLimited => "RateLimited",
            Self::NoSpace => "NoSpace",
            Self::NeedsNewerOllama => "NeedsNewerOllama",
            Self::WrongScheme => "WrongScheme",
            Self::PlainRegistry => "PlainRegistry",
            Self::DigestMismatch => "DigestMismatch",
            Self::NodeAway => "NodeAway",
            Self::Stalled => "Stalled",
            Self::Other => "PullFailed",
        }
    }

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::NoSuchModel => "check spec.model for spelling and tag",
            Self::RegistryUnreachable => "check the registry's host name and that the node can reach it",
            Self::Unauthorized => "the registry wants a login, which nodes don't have: use a registry open to the node",
            Self::RateLimited => "the registry limits requests: it is tried again, more slowly",
            Self::NoSpace => "free disk space on the node",
            Self::NeedsNewerOllama => "upgrade Ollama on the node",
            Self::WrongScheme => {
                "set spec.insecure: true for a registry that speaks plain http, and only for such a one"
            }
            Self::PlainRegistry => {
                "Ollama can't pull from a plain OCI registry: put something before it that sends Location"
            }
            Self::DigestMismatch => "the bytes were damaged on the way: it is tried again",
            Self::NodeAway => "the node went away: it goes on when the node is back",
            Self::Stalled => "no byte moved for a minute: it is tried again",
            Self::Other => "see the node's log",
        }
    }
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

/// `completed` of `total` in percent, rounded down; `None` while the total is not known.
pub fn percent(completed: i64, total: Option<i64>) -> Option<i64> {
    let total = total.filter(|total| *total > 0)?;
    Some((i128::from(completed.clamp(0, total)) * 100 / i128::from(total)) as i64)
}

/// The time from `from` to `to`; zero when the clock was set back in between.
pub fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
