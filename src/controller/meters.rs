//! What the controller counts.

use std::{collections::BTreeMap, fmt, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::ConstGauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Unit,
};

use crate::{
    api::HasConditions,
    cluster::{Kind, Watched, Watches},
    domain::conditions::{ConditionStatus, READY},
    telemetry::Metrics,
};

/// What became of one reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// It did what there was to do.
    Done,
    /// The object was changed or deleted meanwhile.
    Overtaken,
    /// It failed and is tried again.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    kind: String,
    outcome: Outcome,
}

type Durations = Family<ByKind, Histogram, fn() -> Histogram>;

/// The counters of every kind's reconciler; cheap to clone.
#[derive(Clone)]
pub struct Meters {
    reconciles: Family<ByOutcome, Counter>,
    durations: Durations,
    /// Entries of the audit that were lost before they could be stored.
    pub audit_lost: Counter,
}

/// The counters of one kind's reconciler.
pub struct Meter {
    done: Counter,
    overtaken: Counter,
    failed: Counter,
    duration: Histogram,
}

impl Meters {
    /// Counters that `/metrics` shows.
    pub fn registered(metrics: &Metrics) -> Self {
        let (reconciles, durations) = (Family::default(), Durations::new_with_constructor(duration));
        let audit_lost = Counter::default();
        metrics.register(|registry| {
            registry.register("reconciles", "Looks at one object", reconciles.clone());
            let help = "Time that a look at one object took";
            registry.register_with_unit("reconcile_duration", help, Unit::Seconds, durations.clone());
            let help = "Entries of the audit that were lost because they could not be stored for too long";
            registry.register("audit_entries_lost", help, audit_lost.clone());
        });
        Self { reconciles, durations, audit_lost }
    }

    /// Those of one kind.
    pub fn of<K: Kind>(&self) -> Meter {
        let kind = K::kind(&()).into_owned();
        let counter = |outcome| self.reconciles.get_or_create_owned(&ByOutcome { kind: kind.clone(), outcome });
        Meter {
            done: counter(Outcome::Done),
            overtaken: counter(Outcome::Overtaken),
            failed: counter(Outcome::Failed),
            duration: self.durations.get_or_create_owned(&ByKind { kind: kind.clone() }),
        }
    }
}

impl Meter {
    /// Counts one reconcile.
    pub fn count(&self, outcome: Outcome, took: Duration) {
        let counter = match outcome {
            Outcome::Done => &self.done,
            Outcome::Overtaken => &self.overtaken,
            Outcome::Failed => &self.failed,
        };
        counter.inc();
        self.duration.observe(took.as_secs_f64());
    }
}

fn duration() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 8))
}

/// The objects by kind and by what their `Ready` condition says, counted when somebody asks.
pub struct Objects(pub Watches);

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").finish_non_exhaustive()
    }
}

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut counts = BTreeMap::new();
        count(&self.0.nodes, &mut counts);
        count(&self.0.pulls, &mut counts);
        count(&self.0.versions, &mut counts);
        count(&self.0.deployments, &mut counts);
        count(&self.0.providers, &mut counts);
        count(&self.0.keys, &mut counts);
        count(&self.0.catalogs, &mut counts);
        count(&self.0.profiles, &mut counts);
        count(&self.0.chains, &mut counts);
        count(&self.0.workers, &mut counts);
        let help = "Objects by kind and by the status of their Ready condition";
        let mut encoder = encoder.encode_descriptor("objects", help, None, ConstGauge::new(0_i64).metric_type())?;
        for ((kind, ready), count) in counts {
            let labels = [("kind", kind.as_str()), ("ready", ready)];
            ConstGauge::new(count).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn count<K: Kind + HasConditions>(watched: &Watched<K>, counts: &mut BTreeMap<(String, &'static str), i64>) {
    let kind = K::kind(&()).into_owned();
    for ready in ["True", "False", "Unknown"] {
        counts.insert((kind.clone(), ready), 0);
    }
    for object in watched.store().state() {
        let ready = object.conditions().iter().find(|condition| condition.type_ == READY);
        let ready = match ready.map(|ready| ready.status) {
            Some(ConditionStatus::True) => "True",
            Some(ConditionStatus::False) => "False",
            Some(ConditionStatus::Unknown) | None => "Unknown",
        };
        *counts.entry((kind.clone(), ready)).or_default() += 1;
    }
}
