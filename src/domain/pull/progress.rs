//! What the progress lines of one pull add up to.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::elapsed;

/// A pull whose bytes don't move for this long is broken off and tried again.
pub const STALL_AFTER: Duration = Duration::from_secs(60);
/// Hashing a big layer is silent for minutes.
const VERIFY_WITHIN: Duration = Duration::from_secs(3600);
const VERIFYING: &str = "verifying";
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// One line of Ollama's `/api/pull` answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Line {
    /// What it is doing.
    pub status: String,
    /// The layer the counters are for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The layer's size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
    /// The layer's bytes on the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<i64>,
    /// Set on the last line of a pull that failed (the HTTP status is 200 all the same).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Line {
    /// How long the next line may take to come.
    pub fn patience(&self) -> Duration {
        if self.status.starts_with(VERIFYING) { VERIFY_WITHIN } else { STALL_AFTER }
    }
}

/// The progress of one attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    layers: BTreeMap<String, (i64, i64)>,
    expected: i64,
    arrived: i64,
    status: String,
    completed: i64,
    percent: Option<i64>,
    moved_at: Option<Timestamp>,
    window: Option<(Timestamp, i64)>,
    rate: Option<i64>,
}

impl Progress {
    /// The beginning of a pull whose layers have so many bytes together.
    pub fn of(expected: i64) -> Self {
        Self { expected: expected.max(0), ..Self::default() }
    }

    /// Takes in one line that arrived at `now`.
    pub fn fold(&mut self, line: &Line, now: Timestamp) {
        let moved_before = self.completed;
        if let (Some(digest), Some(total)) = (&line.digest, line.total) {
            let known = self.layers.get(digest).copied();
            let (total_before, completed_before) = known.unwrap_or_default();
            let total = total.max(total_before);
            // A part that failed is counted back by Ollama; what people see never goes back.
            let completed = line.completed.unwrap_or(0).max(completed_before).min(total);
            // What a layer begins with was there before.
            let moved = if known.is_some() { completed - completed_before } else { 0 };
            self.arrived = self.arrived.saturating_add(moved);
            self.layers.insert(digest.clone(), (total, completed));
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
        !self.is_verifying() && self.moved_at.is_some_and(|at| elapsed(at, now) >= STALL_AFTER)
    }

    /// What Ollama says it is doing.
    pub fn status(&self) -> &str {
        &self.status
    }

    /// Whether the layers' bytes are all there and being verified.
    pub fn is_verifying(&self) -> bool {
        self.status.starts_with(VERIFYING)
    }

    /// Bytes that came during this attempt.
    pub fn arrived(&self) -> i64 {
        self.arrived
    }

    /// Bytes on the node and, once known, the bytes of all layers, or of those announced so far.
    pub fn bytes(&self) -> (i64, Option<i64>) {
        let announced = self.layers.values().fold(0_i64, |sum, (total, _)| sum.saturating_add(*total));
        let total = announced.max(self.expected);
        (self.completed, (total > 0).then_some(total))
    }

    /// Percent of the known bytes, 0..=99; `None` before any are known.
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

/// `completed` of `total` in percent, rounded down; `None` while the total is not known.
pub fn percent(completed: i64, total: Option<i64>) -> Option<i64> {
    let total = total.filter(|total| *total > 0)?;
    Some((i128::from(completed.clamp(0, total)) * 100 / i128::from(total)) as i64)
}
