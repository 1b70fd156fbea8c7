//! Evidence that the canary is worse than it may be: a test that may be looked at as often as one likes.
//!
//! Attempts come in batches, each of the same time for both sides. Of a batch with `n` attempts and `x` bad ones on each
//! side, the null hypothesis says: the share of bad ones on the canary's side is at most `ratio · stable's share + margin`.
//! For an alternative (θs, θc) fixed before the batch, let (πs, πc) be the point of the hypothesis that minimises
//! `ns·KL(θs‖πs) + nc·KL(θc‖πc)`. The likelihood ratio of the two for the batch then has a mean of at most 1 under *every*
//! point of the hypothesis, because the set of these points is convex: with `g = (θ-π)/(π(1-π))`, the mean is
//! `Π(1 + g·(p-π))^n ≤ exp(Σ n·g·(p-π))`, and the sum is not positive at a minimum (Turner and Grünwald, «Exact
//! anytime-valid confidence intervals for contingency tables and beyond», 2023). The product over batches is a test
//! martingale, whatever happens to both sides' shares from batch to batch; by Ville's inequality it ever reaches 1/α with a
//! probability of at most α. Several alternatives share one bet: the mean of their products has the same property.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much worse than the hypothesis allows the canary might be: one alternative each, beside the one that follows what
/// was seen so far.
const EXCESSES: [f64; 6] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.6];
const ALTERNATIVES: usize = EXCESSES.len() + 1;

/// Shares stay away from 0 and 1, where one surprise would decide all.
const EDGE: f64 = 1e-4;
/// What is assumed before anything was seen: as if this many attempts …
const PRIOR_ATTEMPTS: f64 = 20.0;
/// … had had so many bad ones.
const PRIOR_BAD: f64 = 0.5;
const MICRO: f64 = 1e6;

/// Attempts and how many of them were bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Count {
    /// Attempts.
    pub of: u64,
    /// Bad ones.
    pub bad: u64,
}

impl Count {
    /// The share of bad ones; `None` without attempts.
    pub fn share(self) -> Option<f64> {
        (self.of > 0).then(|| self.bad as f64 / self.of as f64)
    }

    fn plus(self, other: Self) -> Self {
        Self { of: self.of + other.of, bad: self.bad + other.bad }
    }

    /// A guess at the share that never is 0 or 1.
    fn guess(self) -> f64 {
        inside((self.bad as f64 + PRIOR_BAD) / (self.of as f64 + PRIOR_ATTEMPTS))
    }

    /// The logarithm of how much better `share` explains the count than `than` does.
    fn log_ratio(self, share: f64, than: f64) -> f64 {
        let (bad, good) = (self.bad as f64, (self.of - self.bad.min(self.of)) as f64);
        bad * (share / than).ln() + good * ((1.0 - share) / (1.0 - than)).ln()
    }
}

/// The hypothesis: the canary's share of bad attempts is at most `ratio` times stable's, plus `margin`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hypothesis {
    /// Factor; 0 for a bound that doesn't depend on stable.
    pub ratio: f64,
    /// Difference.
    pub margin: f64,
}

impl Hypothesis {
    /// The canary has no larger share than stable.
    pub const NOT_WORSE: Self = Self { ratio: 1.0, margin: 0.0 };

    fn most(self, stable: f64) -> f64 {
        inside(self.ratio * stable + self.margin)
    }

    /// The point of the hypothesis that is nearest to the alternative, for these numbers of attempts.
    fn nearest(self, [stable, canary]: [f64; 2], [of_stable, of_canary]: [u64; 2]) -> [f64; 2] {
        if canary <= self.most(stable) {
            return [stable, canary];
        }
        if self.ratio == 0.0 {
            return [stable, self.most(stable)];
        }
        let (of_stable, of_canary) = (of_stable as f64, of_canary as f64);
        let slope = |n: f64, share: f64, at: f64| -n * (share - at) / (at * (1.0 - at));
        // On the edge of the hypothesis, the distance falls and then rises as stable's share grows.
        let (mut low, mut high) = (stable, ((canary - self.margin) / self.ratio).clamp(stable, 1.0 - EDGE));
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            let on_edge = self.most(middle);
            let rises = slope(of_stable, stable, middle) + self.ratio * slope(of_canary, canary, on_edge) > 0.0;
            if rises { high = middle } else { low = middle }
        }
        [low, self.most(low)]
    }
}

/// What was seen so far of one measure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// Of the stable version.
    pub stable: Count,
    /// Of the canary.
    pub canary: Count,
    /// By alternative: the logarithm of its bet's worth, in millionths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    bets: Vec<i64>,
    /// The most that all bets together were ever worth: its logarithm, in millionths.
    #[serde(default)]
    best: i64,
}

impl Evidence {
    /// Adds a batch: what became of both sides' attempts in the same time.
    pub fn add(&mut self, hypothesis: Hypothesis, stable: Count, canary: Count) {
        let guess = self.stable.guess();
        let alternatives = EXCESSES.iter().map(|excess| hypothesis.most(guess) + excess);
        let alternatives = alternatives.chain([self.canary.guess()]);
        self.bets.resize(ALTERNATIVES, 0);
        for (worth, alternative) in self.bets.iter_mut().zip(alternatives) {
            let bet = [guess, inside(alternative)];
            let null = hypothesis.nearest(bet, [stable.of, canary.of]);
            let gain = stable.log_ratio(bet[0], null[0]) + canary.log_ratio(bet[1], null[1]);
            // Down, so that rounding never adds evidence.
            *worth = worth.saturating_add((gain * MICRO).floor() as i64);
        }
        self.best = self.best.max((self.log_worth() * MICRO).floor() as i64);
        self.stable = self.stable.plus(stable);
        self.canary = self.canary.plus(canary);
    }

    /// An upper bound of the probability that an innocent canary ever looks as bad as this one did: 1 to 0.
    pub fn p_value(&self) -> f64 {
        (-(self.best.max(0) as f64) / MICRO).exp()
    }

    /// What all bets are worth now: 1 before the first batch, and 1 or less on average under the hypothesis.
    pub fn worth(&self) -> f64 {
        if self.bets.is_empty() { 1.0 } else { self.log_worth().exp() }
    }

    fn log_worth(&self) -> f64 {
        let logs = self.bets.iter().map(|worth| *worth as f64 / MICRO);
        let most = logs.clone().fold(f64::NEG_INFINITY, f64::max);
        most + (logs.map(|log| (log - most).exp()).sum::<f64>() / ALTERNATIVES as f64).ln()
    }
}

fn inside(share: f64) -> f64 {
    share.clamp(EDGE, 1.0 - EDGE)
}
