//! Durations and prices, counted by size: mergeable over gateways and over time.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Buckets between one duration and its double.
const PER_OCTAVE: f64 = 32.0;
/// The base-2 logarithm of the bound of bucket 0, in microseconds (128 µs).
const FIRST: f64 = 7.0;
/// How many seconds stand where a dollar stands.
pub(super) const SECONDS_PER_DOLLAR: f64 = 1e3;
/// The number of buckets; the last one also has everything longer than about 18 minutes.
pub const BUCKETS: usize = 23 * 32 + 1;

/// The bucket of a duration: the first whose bound is not below it.
pub fn bucket(duration: Duration) -> usize {
    let micros = duration.as_secs_f64() * 1e6;
    let place = (PER_OCTAVE * (micros.max(1.0).log2() - FIRST)).ceil();
    place.clamp(0.0, (BUCKETS - 1) as f64) as usize
}

/// The bucket of a price in US dollars for 1,000 tokens; a billionth of a dollar stands where a microsecond stands for
/// durations, so bucket 0 is as good as nothing, and the last one begins at about a dollar.
pub fn price_bucket(dollars: f64) -> usize {
    bucket(Duration::try_from_secs_f64(dollars * SECONDS_PER_DOLLAR).unwrap_or(Duration::MAX))
}

/// The longest duration of a bucket, in seconds.
pub fn bound(bucket: usize) -> f64 {
    (FIRST + bucket as f64 / PER_OCTAVE).exp2() / 1e6
}

/// How many durations, or prices, fell into each bucket. Bounds grow by 2.2 % from one bucket to the next, and are the same
/// everywhere, so sketches are added and subtracted without loss.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Sketch(BTreeMap<u16, u64>);

impl Sketch {
    /// Counts in order of the buckets; those without a count are left out.
    pub fn new(counts: impl IntoIterator<Item = u64>) -> Self {
        Self((0..).zip(counts).filter(|(_, count)| *count > 0).collect())
    }

    /// Adds all of another sketch.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            *self.0.entry(*bucket).or_default() += count;
        }
    }

    /// What was added since `earlier`, an older state of this sketch.
    pub fn since(&self, earlier: &Self) -> Self {
        let gone = |bucket| earlier.0.get(bucket).copied().unwrap_or(0);
        let counts = self.0.iter().map(|(bucket, count)| (*bucket, count.saturating_sub(gone(bucket))));
        Self(counts.filter(|(_, count)| *count > 0).collect())
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many durations.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// How many durations are longer than all of this bucket.
    pub fn above(&self, bucket: usize) -> u64 {
        self.0.iter().filter(|(at, _)| usize::from(**at) > bucket).map(|(_, count)| count).sum()
    }

    /// The bucket that holds this quantile (0 to 1); `None` without any duration.
    pub fn quantile(&self, share: f64) -> Option<usize> {
        let wanted = share * self.total() as f64;
        let mut seen = 0;
        let mut reached = self.0.iter().filter(|(_, count)| {
            seen += **count;
            seen as f64 >= wanted
        });
        reached.next().map(|(bucket, _)| usize::from(*bucket))
    }
}
