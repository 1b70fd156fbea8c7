//! What is counted of pulls.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
};

use crate::{domain::pull::Fault, telemetry};

/// How attempts end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Ended {
    outcome: &'static str,
    reason: &'static str,
}

/// Handles to the metrics; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    attempts: Family<Ended, Counter>,
    /// Bytes that arrived on nodes while they were watched.
    pub bytes: Counter,
    /// Seconds of attempts that succeeded.
    pub duration: Histogram,
    /// Attempts that run.
    pub running: Gauge,
    /// Attempts that wait for their turn.
    pub waiting: Gauge,
}

impl Metrics {
    /// Registers them.
    pub fn new(metrics: &telemetry::Metrics) -> Self {
        // From a tenth of a second to an hour and a half.
        let own = Self {
            attempts: Family::default(),
            bytes: Counter::default(),
            duration: Histogram::new(exponential_buckets(0.1, 3.0, 11)),
            running: Gauge::default(),
            waiting: Gauge::default(),
        };
        metrics.register(|registry| {
            registry.register("pull_attempts", "Attempts to pull a model onto a node", own.attempts.clone());
            registry.register("pull_bytes", "Bytes that arrived on nodes", own.bytes.clone());
            registry.register("pull_duration_seconds", "How long pulls took that succeeded", own.duration.clone());
            registry.register("pull_running", "Nodes that pull now", own.running.clone());
            registry.register("pull_waiting", "Pulls that wait for their turn", own.waiting.clone());
        });
        own
    }

    /// An attempt ended; `None`: it succeeded.
    pub fn ended(&self, fault: Option<Fault>) {
        let ended = match fault {
            None => Ended { outcome: "success", reason: "" },
            Some(fault) => Ended { outcome: "failure", reason: fault.reason() },
        };
        self.attempts.get_or_create(&ended).inc();
    }
}
