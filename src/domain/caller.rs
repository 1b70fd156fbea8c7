//! Who may ask for what, and how much of it: keys of callers, and their allowances.

use std::{fmt, str::FromStr, time::Duration};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How every key begins, so that people and scanners know one when they see it.
pub const KEY_PREFIX: &str = "drv_";
/// A limit per minute is one of this long.
const MINUTE: Duration = Duration::from_secs(60);
/// When to try again after a request that found too many others of its caller under way: nobody knows when one of them
/// will end.
const WHEN_ANOTHER_ENDS: Duration = Duration::from_secs(1);

/// Who is asked for a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequireKey {
    /// Nobody.
    Nobody,
    /// Callers from other machines.
    #[default]
    Remote,
    /// Everybody.
    Everybody,
}

impl RequireKey {
    /// Whether a caller must have a key, who is on this machine (`is_local`) or on another one.
    pub fn asks(self, is_local: bool) -> bool {
        match self {
            Self::Nobody => false,
            Self::Remote => !is_local,
            Self::Everybody => true,
        }
    }
}

impl FromStr for RequireKey {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "nobody" => Ok(Self::Nobody),
            "remote" => Ok(Self::Remote),
            "everybody" => Ok(Self::Everybody),
            _ => Err(()),
        }
    }
}

/// How much a caller may ask for. What isn't set has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Requests for a model per minute, over all gateways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub requests_per_minute: Option<u32>,
    /// Tokens per minute, read and written ones together, over all gateways. They are counted when an answer ends, so a
    /// caller may go over it by the answers under way, and then waits until that is made up for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub tokens_per_minute: Option<u32>,
    /// Requests under way at once, over all gateways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_concurrent_requests: Option<u32>,
}

impl Limits {
    /// What one of so many gateways may let through: an equal part of each limit, at least 1.
    pub fn share(self, gateways: u32) -> Self {
        let part = |limit: Option<u32>| limit.map(|limit| (limit / gateways.max(1)).max(1));
        Self {
            requests_per_minute: part(self.requests_per_minute),
            tokens_per_minute: part(self.tokens_per_minute),
            max_concurrent_requests: part(self.max_concurrent_requests),
        }
    }
}

/// A limit that a caller has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Requests per minute.
    Requests,
    /// Tokens per minute.
    Tokens,
    /// Requests at once.
    Concurrency,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requests => "requests per minute",
            Self::Tokens => "tokens per minute",
            Self::Concurrency => "requests at once",
        })
    }
}

/// Why a request must wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// The limit that was reached.
    pub limit: Limit,
    /// How much of it there is.
    pub most: u32,
    /// When to try again.
    pub retry_after: Duration,
}

/// What a caller has used of its limits. Times are those of one clock that never goes back.
///
/// Each limit per minute is a bucket that holds one minute's worth and empties evenly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    requests: Bucket,
    tokens: Bucket,
    under_way: u32,
}

impl Allowance {
    /// Counts a request that begins. [`Allowance::end`] must follow.
    ///
    /// # Errors
    /// The limit that it would go over; nothing is counted then.
    pub fn begin(&mut self, limits: &Limits, now: Duration) -> Result<(), Exceeded> {
        if let Some(most) = limits.max_concurrent_requests.filter(|most| self.under_way >= *most) {
            return Err(Exceeded { limit: Limit::Concurrency, most, retry_after: WHEN_ANOTHER_ENDS });
        }
        for (limit, bucket, most) in [
            (Limit::Tokens, &self.tokens, limits.tokens_per_minute),
            (Limit::Requests, &self.requests, limits.requests_per_minute),
        ] {
            let Some(most) = most else { continue };
            let retry_after = bucket.wait(most, now);
            if !retry_after.is_zero() {
                return Err(Exceeded { limit, most, retry_after });
            }
        }
        self.requests.put(1, limits.requests_per_minute, now);
        self.under_way = self.under_way.saturating_add(1);
        Ok(())
    }

    /// Counts what an answer cost.
    pub fn spend(&mut self, limits: &Limits, tokens: u64, now: Duration) {
        self.tokens.put(tokens, limits.tokens_per_minute, now);
    }

    /// Counts a request that ended.
    pub fn end(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Requests under way.
    pub fn under_way(&self) -> u32 {
        self.under_way
    }
}

/// What was used of a limit per minute and isn't made up for yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Bucket {
    /// In parts of [`PARTS`] of one: each nanosecond takes away as many as the limit says, without any rounding.
    used: u128,
    /// The time that this is for.
    at: Duration,
}

/// The parts of one: the nanoseconds of a minute.
const PARTS: u128 = MINUTE.as_nanos();

impl Bucket {
    /// How long until there is room for one.
    fn wait(&self, most: u32, now: Duration) -> Duration {
        let over = (self.left(most, now) + PARTS).saturating_sub(u128::from(most) * PARTS);
        nanoseconds(over.div_ceil(u128::from(most.max(1))))
    }

    fn put(&mut self, count: u64, most: Option<u32>, now: Duration) {
        let left = most.map_or(0, |most| self.left(most, now));
        (self.used, self.at) = (left + u128::from(count) * PARTS, now);
    }

    fn left(&self, most: u32, now: Duration) -> u128 {
        self.used.saturating_sub(now.saturating_sub(self.at).as_nanos() * u128::from(most))
    }
}

fn nanoseconds(count: u128) -> Duration {
    const SECOND: u128 = Duration::from_secs(1).as_nanos();
    Duration::new(u64::try_from(count / SECOND).unwrap_or(u64::MAX), (count % SECOND) as u32)
}

/// The models that a caller may use, by patterns: `*` stands for any text, `?` for one character, `[ab]` and `{a,b}` for one
/// of several. Case doesn't matter, as in Ollama's names.
#[derive(Clone, Debug)]
pub struct ModelPatterns(GlobSet);

impl ModelPatterns {
    /// Reads the patterns.
    ///
    /// # Errors
    /// The first one that can't be read, and why.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        let mut all = GlobSetBuilder::new();
        for pattern in patterns {
            let glob = GlobBuilder::new(pattern).case_insensitive(true).build();
            all.add(glob.map_err(|error| format!("{pattern:?} is not a pattern: {}", error.kind()))?);
        }
        all.build().map(Self).map_err(|error| error.to_string())
    }

    /// Whether one of them fits a name.
    pub fn fit(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}
