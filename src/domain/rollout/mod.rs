//! How a version goes live, and back: one pure function from (spec, state, observations, now) to the next state.
//!
//! The state is what the object's status keeps, so a controller killed at any point goes on from it. The rules in
//! [`plan()`] are tried in order and the first that applies decides; the phase people see is computed last.

mod audit;
mod begin;
mod commands;
mod placement;
mod plan;
mod state;
mod steps;
mod switch;
mod verdict;
mod warm;

use audit::NOBODY;
pub use audit::{AUDIT_LIMIT, Authors, Entry};
pub use commands::Commands;
pub use plan::{Decision, Input, Notice, plan};
pub use state::{
    Canary, HISTORY_LIMIT, HistoryEntry, Outcome, Rejected, Release, Rollback, Side, State, next_rollout_id,
};
pub use verdict::Phase;
pub use warm::{Cold, has_served, wait_for};

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use crate::domain::analysis;

/// One step of a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Percent of requests, 1..=99.
    pub weight: u8,
    /// How long the step is held at least.
    pub duration: Duration,
}

/// What comes before the first step: copies of requests, whose answers nobody gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// Percent of requests that are copied, 1..=100.
    pub share: u8,
    /// How long at least.
    pub duration: Duration,
    /// What copies to a provider may cost at each gateway, in millionths of a US dollar.
    pub budget: u64,
}

/// What the user asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The version that shall serve.
    pub version: String,
    /// Steps before 100 percent; none: switch at once.
    pub steps: Vec<Step>,
    /// What comes before them.
    pub shadow: Option<Shadow>,
    /// Each step is left only by `drover.dev/promote`.
    pub require_approval: bool,
    /// How the canary is compared with stable; unset: by nobody.
    pub analysis: Option<analysis::Settings>,
    /// Hold everything but rollbacks.
    pub paused: bool,
    /// Ready nodes that must hold a version before it gets traffic.
    pub min_nodes: u32,
    /// Makes rollout ids of this object unlike those of any other.
    pub id_prefix: String,
}

/// Whether a version can serve at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Availability {
    /// The version with its verified digest; `None` while that is not known.
    pub release: Option<Release>,
    /// Ready nodes that hold it.
    pub nodes: u32,
    /// Why it can't serve, for people; empty when it can.
    pub message: String,
}

/// The rollout revision that one gateway serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The revision, as in [`State::revision`]; 0 when the gateway doesn't know the deployment.
    pub revision: i64,
    /// When the gateway began to serve it.
    pub since: Timestamp,
}

/// Availability by version name.
pub type Versions = BTreeMap<String, Availability>;

/// How many ready nodes hold exactly this release: a version that was registered anew with another digest is not it.
fn holders(versions: &Versions, release: &Release) -> u32 {
    let found = versions.get(&release.version);
    found
        .filter(|found| found.release.as_ref().is_some_and(|r| r.identity() == release.identity()))
        .map_or(0, |found| found.nodes)
}
