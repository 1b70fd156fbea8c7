//! What a canary is compared by.

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Count, Hypothesis, Observed, Sketch, sketch};

/// A bucket's place is chosen by a batch with at least this many durations or prices.
const ENOUGH_FOR_A_QUANTILE: u64 = 20;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Measure {
    /// Share of attempts that failed.
    ErrorRate,
    /// Share of answers that broke the schema they were asked for.
    SchemaFailureRate,
    /// Median of the time to the whole answer.
    LatencyP50,
    /// 95th percentile of the time to the whole answer.
    LatencyP95,
    /// 95th percentile of the time to the first piece of a streamed answer.
    TimeToFirstToken,
    /// Median speed of answers. Worse is slower: `maxRatio` 1.2 allows a speed of stable's divided by 1.2.
    TokensPerSecond,
    /// 95th percentile of what 1,000 tokens of an answer cost, in US dollars: nothing on nodes, by the price list of providers.
    CostPer1kTokens,
    /// Share of the scores that callers gave which are below 0.5.
    FeedbackScore,
}

/// How much worse the canary may be than stable. Of times, `Increase` and `Max` are in seconds; of prices, in US dollars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// By this difference.
    Increase(f64),
    /// By this factor.
    Ratio(f64),
    /// To this value, however stable does.
    Max(f64),
}

/// One measure and its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Criterion {
    /// What is measured.
    pub measure: Measure,
    /// How much worse it may be.
    pub limit: Limit,
    /// Shown, but decides nothing.
    pub dry_run: bool,
}

/// What a measure of sizes is about.
struct Sizes {
    sketch: fn(&Observed) -> &Sketch,
    /// By which of stable's an attempt is judged, 0 to 1.
    quantile: f64,
    /// How many of the sketch's seconds one of the limit's units is.
    unit: f64,
}

/// A batch as one criterion sees it.
pub(super) struct Seen {
    /// What is tested.
    pub hypothesis: Hypothesis,
    /// The stable version's bad attempts.
    pub stable: Count,
    /// The canary's.
    pub canary: Count,
}

impl Measure {
    /// The sizes that it is about; `None` for a share.
    fn sizes(self) -> Option<Sizes> {
        let times = |sketch, quantile| Some(Sizes { sketch, quantile, unit: 1.0 });
        match self {
            Self::ErrorRate | Self::SchemaFailureRate | Self::FeedbackScore => None,
            Self::LatencyP50 => times(|seen| &seen.latency, 0.5),
            Self::LatencyP95 => times(|seen| &seen.latency, 0.95),
            Self::TimeToFirstToken => times(|seen| &seen.first_token, 0.95),
            Self::TokensPerSecond => times(|seen| &seen.token_time, 0.5),
            // No token costs more than a written one, so hardly any attempt is above this of stable's unless prices are.
            Self::CostPer1kTokens => {
                Some(Sizes { sketch: |seen| &seen.price, quantile: 0.95, unit: sketch::SECONDS_PER_DOLLAR })
            }
        }
    }

    /// The share that it is; of sizes, errors.
    fn count(self, seen: &Observed) -> Count {
        match self {
            Self::SchemaFailureRate => seen.schema_errors(),
            Self::FeedbackScore => seen.dislikes(),
            _ => seen.errors(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::ErrorRate => "errorRate",
            Self::SchemaFailureRate => "schemaFailureRate",
            Self::LatencyP50 => "latencyP50",
            Self::LatencyP95 => "latencyP95",
            Self::TimeToFirstToken => "timeToFirstToken",
            Self::TokensPerSecond => "tokensPerSecond",
            Self::CostPer1kTokens => "costPer1kTokens",
            Self::FeedbackScore => "feedbackScore",
        }
    }
}

impl Criterion {
    /// Both sides of a batch. For sizes, the `bucket` is where stable's quantile was *before* this batch; an attempt is
    /// bad when it is above, on the canary's side above what the limit makes of it. `None` until there is one.
    pub(super) fn look(&self, bucket: Option<u16>, stable: &Observed, canary: &Observed) -> Option<Seen> {
        let Some(Sizes { sketch: of, quantile, unit }) = self.measure.sizes() else {
            let count = |seen| self.measure.count(seen);
            let hypothesis = match self.limit {
                Limit::Increase(margin) => Hypothesis { ratio: 1.0, margin },
                Limit::Ratio(ratio) => Hypothesis { ratio, margin: 0.0 },
                Limit::Max(margin) => Hypothesis { ratio: 0.0, margin },
            };
            return Some(Seen { hypothesis, stable: count(stable), canary: count(canary) });
        };
        let above = |seen: &Observed, bucket: usize| {
            let sketch = of(seen);
            Count { of: sketch.total(), bad: sketch.above(bucket) }
        };
        let known = || bucket.map(usize::from);
        let (hypothesis, usual, limit) = match self.limit {
            Limit::Max(most) => {
                let limit = reaching(most * unit);
                (Hypothesis { ratio: 0.0, margin: 1.0 - quantile }, known().unwrap_or(limit), limit)
            }
            Limit::Ratio(ratio) => {
                let usual = known()?;
                (Hypothesis::NOT_WORSE, usual, reaching(sketch::bound(usual) * ratio))
            }
            Limit::Increase(by) => {
                let usual = known()?;
                (Hypothesis::NOT_WORSE, usual, reaching(sketch::bound(usual) + by * unit))
            }
        };
        Some(Seen { hypothesis, stable: above(stable, usual), canary: above(canary, limit) })
    }

    /// Where stable's quantile is, for the next batch: half the way to where this one has it.
    pub(super) fn next_bucket(&self, bucket: Option<u16>, stable: &Observed) -> Option<u16> {
        let Sizes { sketch: of, quantile, .. } = self.measure.sizes()?;
        let seen = of(stable);
        let found = seen.quantile(quantile).filter(|_| seen.total() >= ENOUGH_FOR_A_QUANTILE);
        let Some(found) = found.and_then(|found| u16::try_from(found).ok()) else { return bucket };
        Some(bucket.map_or(found, |bucket| bucket.midpoint(found)))
    }

    /// What is counted.
    pub(super) fn noun(&self) -> &'static str {
        if self.measure == Measure::FeedbackScore { "scores" } else { "attempts" }
    }

    /// What is wrong with a bad attempt.
    pub(super) fn bad(&self) -> &'static str {
        match (self.measure, self.limit) {
            (Measure::ErrorRate, _) => "failed",
            (Measure::SchemaFailureRate, _) => "broke their schema",
            (Measure::FeedbackScore, _) => "were found bad",
            (Measure::CostPer1kTokens, Limit::Max(_)) => "cost more than the limit",
            (Measure::CostPer1kTokens, _) => "cost more than stable's 95th percentile allows",
            (_, Limit::Max(_)) => "took longer than the limit",
            (Measure::LatencyP50 | Measure::TokensPerSecond, _) => "took longer than stable's median allows",
            _ => "took longer than stable's 95th percentile allows",
        }
    }

    /// The limit as people read it.
    fn bound(&self) -> String {
        let value = |value: f64| match self.measure.sizes() {
            Some(_) if self.measure == Measure::CostPer1kTokens => format!("${value}"),
            Some(_) => seconds(value),
            None => percent(value),
        };
        match self.limit {
            Limit::Increase(by) => format!("stable's + {}", value(by)),
            Limit::Ratio(by) => format!("{by} × stable's"),
            Limit::Max(most) => value(most),
        }
    }
}

impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at most {}", self.measure.name(), self.bound())
    }
}

/// The bucket whose bound is the first that is not below this many seconds: a limit between two is the canary's favour.
fn reaching(seconds: f64) -> usize {
    // A bound that was worked out must find its own bucket, not the one after.
    let seconds = seconds * (1.0 - 1e-9);
    Duration::try_from_secs_f64(seconds).map_or(sketch::BUCKETS - 1, sketch::bucket)
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}
