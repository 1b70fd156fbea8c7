//! What all gateways counted, reading after reading, cut into batches.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Observed, Value};

/// With fewer attempts than these on one side, a batch waits for more.
const ENOUGH_OF_STABLE: u64 = 20;
const ENOUGH_OF_CANARY: u64 = 5;

/// The counts of one deployment at one time: by gateway process, then by version. A gateway that could not be asked is
/// not in it.
pub type Reading = BTreeMap<String, BTreeMap<String, Observed>>;

/// Both versions' attempts over all gateways; at each gateway, both of the same span of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The rollout it was measured for.
    pub rollout_id: String,
    /// When it ended.
    pub at: Timestamp,
    /// The stable version's.
    pub stable: Observed,
    /// The canary's.
    pub canary: Observed,
    /// The answers to queries, by name.
    pub values: BTreeMap<String, Value>,
    /// How many gateways could not be asked: what they counted comes in a later batch.
    pub unheard: u32,
}

impl Batch {
    /// What was counted between two readings, by the gateways that are in both.
    pub fn between(earlier: &Reading, later: &Reading, stable: &str, canary: &str) -> Self {
        let of = |version: &str| {
            let mut sum = Observed::default();
            for (gateway, now) in later {
                let Some(before) = earlier.get(gateway) else { continue };
                let nothing = Observed::default();
                let counts = now.get(version).unwrap_or(&nothing);
                sum.merge(&counts.since(before.get(version).unwrap_or(&nothing)));
            }
            sum
        };
        Self { stable: of(stable), canary: of(canary), ..Self::default() }
    }

    /// Whether its counts say enough to be looked at; else the next reading shall add to them.
    pub fn is_enough(&self) -> bool {
        self.stable.attempts >= ENOUGH_OF_STABLE && self.canary.attempts >= ENOUGH_OF_CANARY
    }
}

/// Up to where each gateway's counts are in batches already.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted(Reading);

impl Counted {
    /// Gateways that are seen for the first time, or started anew, count from now on: what they counted before may be of
    /// another rollout.
    pub fn meet(&mut self, now: &Reading) {
        for (gateway, counts) in now {
            self.0.entry(gateway.clone()).or_insert_with(|| counts.clone());
        }
    }

    /// What is in no batch yet, as far as the gateways of this reading know.
    pub fn batch(&self, now: &Reading, stable: &str, canary: &str) -> Batch {
        Batch::between(&self.0, now, stable, canary)
    }

    /// The batch up to this reading was used, for which so many gateways could not be asked: who isn't in it is gone or
    /// one of those, whose counts are still to come.
    pub fn settle(&mut self, now: Reading, unheard: u32) {
        if unheard == 0 {
            self.0.clear();
        }
        self.0.extend(now);
    }
}

/// What copies of requests cost before the first step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Copies {
    /// By the provider's price list, in millionths of a US dollar.
    pub cost_micros: u64,
    /// Gateways that spent what they may, and send no more of them.
    pub spent_out: u32,
    /// All gateways.
    pub gateways: u32,
}

impl Copies {
    /// Adds what another gateway's copies cost, where as much as `budget` is allowed, both in millionths of a US dollar.
    pub fn add(&mut self, cost: u64, budget: u64) {
        self.cost_micros = self.cost_micros.saturating_add(cost);
        self.spent_out += u32::from(cost > budget);
        self.gateways += 1;
    }
}

/// US dollars in millionths, rounded up.
pub fn micros(dollars: f64) -> u64 {
    (dollars * 1e6).ceil() as u64
}
