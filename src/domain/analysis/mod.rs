//! Whether a canary is worse than the version it shall replace: measured, and decided with a stated chance of error.

mod criterion;
mod evidence;
mod observed;
mod query;
mod reading;
mod sketch;

pub use criterion::{Criterion, Limit, Measure};
pub use evidence::{Count, Evidence, Hypothesis};
pub use observed::Observed;
pub use query::{Queried, Query, Value};
pub use reading::{Batch, Copies, Counted, Reading, micros};
pub use sketch::{BUCKETS, Sketch, bound, bucket, price_bucket};

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use criterion::percent;

/// The chance that a rollout of a version no worse than its limits allow is ever rolled back by its analysis. It is split
/// evenly over the measures that decide.
pub const FALSE_ROLLBACKS: f64 = 0.01;

/// The status keeps this many measurements.
const MEASUREMENTS: usize = 10;

/// How a canary is compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How often.
    pub interval: Duration,
    /// A step is not left before this many of the canary's attempts were measured in it.
    pub min_requests: u32,
    /// By what.
    pub criteria: Vec<Criterion>,
    /// By what else.
    pub queries: Vec<Query>,
    /// So many answers of a query in a row that are out of bounds end the canary.
    pub failure_limit: u32,
    /// A step is not left before so many comparisons in a row had nothing against the canary.
    pub consecutive_successes: u32,
    /// Into how many parts a rollout falls, each with evidence and a chance of error of its own: as many as it has steps
    /// where sessions are counted, because a session that counted in one step counts again in the next; else 1.
    pub parts: u32,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What one measurement came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// Too few requests in this step so far.
    Inconclusive,
    /// Something speaks against the canary, and not enough to take it back.
    Doubtful,
    /// Nothing speaks against the canary.
    Passing,
    /// The canary is worse than it may be.
    Failed,
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Measurement {
    /// When.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// Index of the step.
    pub step: u32,
    /// True: before the first step, when the canary got copies of requests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
    /// The stable version's attempts since the one before.
    pub stable_attempts: u64,
    /// The canary's.
    pub canary_attempts: u64,
    /// Gateways that could not be asked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unheard: u32,
    /// What followed.
    pub verdict: Verdict,
}

/// What is known by one criterion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// The criterion, as people read it; evidence for another one is not evidence for this one.
    pub criterion: String,
    /// Where it stands.
    pub message: String,
    /// What was counted and what it is worth.
    pub evidence: Evidence,
    /// For times and prices: the bucket of stable's quantile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bucket: Option<u16>,
}

/// Everything an analysis remembers of one rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    /// The rollout.
    pub rollout_id: String,
    /// The step that the requests are counted for.
    pub step: u32,
    /// True: before that step, while the canary gets copies of requests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
    /// The canary's attempts in this step.
    pub requests: u64,
    /// What copies of requests cost, once a gateway spent what they may cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<Copies>,
    /// Comparisons in a row, in this step, that had nothing against the canary.
    #[serde(default)]
    pub successes: u32,
    /// By criterion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Measured>,
    /// By query.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queries: Vec<Queried>,
    /// The last comparisons, newest first, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub measurements: Vec<Measurement>,
}

impl Analysis {
    /// Nothing is known of this rollout yet, which is at this step, or before it with copies of requests.
    pub fn new(rollout_id: &str, step: u32, shadow: bool) -> Self {
        Self { rollout_id: rollout_id.into(), step, shadow, ..Self::default() }
    }

    /// Counts requests anew for the step that begins, of a rollout that may have got another name; what was seen before
    /// stays known, unless each step has evidence of its own.
    pub fn begin_step(&mut self, settings: Option<&Settings>, rollout_id: &str, step: u32) {
        if settings.is_some_and(|settings| settings.parts > 1) {
            self.metrics.clear();
        }
        *self = Self {
            rollout_id: rollout_id.into(),
            step,
            shadow: false,
            copies: None,
            requests: 0,
            successes: 0,
            ..std::mem::take(self)
        };
    }

    /// Adds a batch, and says what is wrong with the canary if something is. A batch that was added before, or is of
    /// another rollout, adds nothing.
    pub fn add(&mut self, settings: &Settings, batch: &Batch) -> Option<String> {
        let is_old = self.measurements.first().is_some_and(|last| last.at >= batch.at);
        if is_old || batch.rollout_id != self.rollout_id {
            return None;
        }
        let deciding = settings.criteria.iter().filter(|criterion| !criterion.dry_run).count();
        let alpha = FALSE_ROLLBACKS / deciding.max(1) as f64 / f64::from(settings.parts.max(1));
        let mut earlier = std::mem::take(&mut self.metrics);
        let mut failure = None;
        for criterion in &settings.criteria {
            let name = criterion.to_string();
            let known = earlier.iter().position(|known| known.criterion == name).map(|at| earlier.swap_remove(at));
            let mut measured = known.unwrap_or_else(|| Measured::new(name));
            measured.add(criterion, batch, alpha);
            if measured.evidence.p_value() <= alpha && !criterion.dry_run {
                failure = failure.or_else(|| Some(format!("{}: {}", measured.criterion, measured.message)));
            }
            self.metrics.push(measured);
        }
        let failure = failure.or(self.hear(settings, batch));
        self.requests += batch.canary.attempts;
        let in_favour = self.is_in_favour(settings, batch);
        self.successes = match in_favour {
            Some(true) => self.successes.saturating_add(1),
            Some(false) => 0,
            None => self.successes,
        };
        let verdict = match failure {
            Some(_) => Verdict::Failed,
            None if self.lacks(settings) > 0 => Verdict::Inconclusive,
            None if in_favour == Some(false) => Verdict::Doubtful,
            None => Verdict::Passing,
        };
        let (stable_attempts, canary_attempts) = (batch.stable.attempts, batch.canary.attempts);
        let (at, step, shadow) = (batch.at, self.step, self.shadow);
        let unheard = batch.unheard;
        let measurement = Measurement { at, step, shadow, stable_attempts, canary_attempts, unheard, verdict };
        self.measurements.insert(0, measurement);
        self.measurements.truncate(MEASUREMENTS);
        failure
    }

    /// Adds what queries came to.
    fn hear(&mut self, settings: &Settings, batch: &Batch) -> Option<String> {
        let earlier = std::mem::take(&mut self.queries);
        for query in &settings.queries {
            let known = earlier.iter().find(|known| known.name == query.name).cloned();
            let heard = batch.values.get(&query.name).map(|value| query.judge(known.clone(), value));
            self.queries.extend(heard.or(known));
        }
        let decides =
            |heard: &&Queried| settings.queries.iter().any(|query| query.name == heard.name && !query.dry_run);
        let failed = self.queries.iter().filter(decides).find(|heard| heard.failures >= settings.failure_limit);
        failed.map(|heard| format!("{}: {}, {} times in a row", heard.name, heard.message, heard.failures))
    }

    /// Whether a batch, which was added, leaves nothing against the canary; `None` when it says too little, as one does
    /// that lacks a gateway's counts. The bets against a canary that keeps its limits lose: while they are worth more than
    /// they began with, it is in doubt. So it is while a query gives no number.
    fn is_in_favour(&self, settings: &Settings, batch: &Batch) -> Option<bool> {
        let deciding = |criterion: &&Criterion| !criterion.dry_run;
        let mut criteria = settings.criteria.iter().filter(deciding).peekable();
        let says_too_little = criteria.peek().is_some() && (!batch.is_enough() || batch.unheard > 0);
        let names: Vec<String> = criteria.map(ToString::to_string).collect();
        let is_doubted = |measured: &&Measured| names.contains(&measured.criterion) && measured.evidence.worth() > 1.0;
        let is_missed =
            |query: &&Query| !query.dry_run && !batch.values.get(&query.name).is_some_and(|value| query.keeps(value));
        if self.metrics.iter().any(|measured| is_doubted(&measured))
            || settings.queries.iter().any(|query| is_missed(&query))
        {
            return Some(false);
        }
        (!says_too_little).then_some(true)
    }

    /// Whether the step may be left, as far as measurements go.
    pub fn is_enough(&self, settings: &Settings) -> bool {
        self.lacks(settings) == 0 && self.successes >= settings.consecutive_successes
    }

    /// How many gateways could not be asked for the last comparison.
    pub fn unheard(&self) -> u32 {
        self.measurements.first().map_or(0, |last| last.unheard)
    }

    /// How many of the canary's requests are missing before the step may be left.
    pub fn lacks(&self, settings: &Settings) -> u64 {
        u64::from(settings.min_requests).saturating_sub(self.requests)
    }
}

impl Measured {
    fn new(criterion: String) -> Self {
        Self { criterion, message: String::new(), evidence: Evidence::default(), bucket: None }
    }

    fn add(&mut self, criterion: &Criterion, batch: &Batch, alpha: f64) {
        if let Some(seen) = criterion.look(self.bucket, &batch.stable, &batch.canary) {
            self.evidence.add(seen.hypothesis, seen.stable, seen.canary);
        }
        self.bucket = criterion.next_bucket(self.bucket, &batch.stable);
        self.message = self.explain(criterion, alpha);
    }

    fn explain(&self, criterion: &Criterion, alpha: f64) -> String {
        let Evidence { stable, canary, .. } = &self.evidence;
        let (Some(of_stable), Some(of_canary)) = (stable.share(), canary.share()) else {
            return "nothing to compare yet".into();
        };
        let what = criterion.bad();
        let shares = format!(
            "{} of {} {} {what}, stable's {} of {}",
            percent(of_canary),
            canary.of,
            criterion.noun(),
            percent(of_stable),
            stable.of
        );
        let chance = self.evidence.p_value();
        if chance <= alpha {
            format!("{shares}: worse than allowed, by chance in less than {} of rollouts", percent(alpha))
        } else {
            shares
        }
    }
}
