//! What a rollout remembers: the part of a `ModelDeployment`'s status that decisions rest on.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Commands, Entry};
use crate::domain::analysis::Analysis;

/// The history keeps this many entries.
pub const HISTORY_LIMIT: usize = 10;

/// A version with the digest it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Release {
    /// The version, for example `v1.1.0`.
    pub version: String,
    /// The Ollama tag it was made from, or the provider's model.
    pub tag: String,
    /// The digest that was verified; a provider's model has none.
    pub digest: String,
}

impl Release {
    /// What tells it from another one of the same version: its digest, or the provider's model.
    pub fn identity(&self) -> &str {
        if self.digest.is_empty() { &self.tag } else { &self.digest }
    }
}

/// The version that serves all requests the canary doesn't get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Side {
    /// The version.
    #[serde(flatten)]
    pub release: Release,
    /// Percent of requests.
    pub weight: u8,
}

/// The version on trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// The version.
    #[serde(flatten)]
    pub release: Release,
    /// Percent of requests; 0 before the first step.
    pub weight: u8,
    /// Before the first step: percent of requests that it gets copies of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<u8>,
    /// Index into the strategy's steps.
    pub step: u32,
    /// When this step began.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub step_started_at: Timestamp,
    /// Since when no ready node holds it, though one holds stable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub lost_since: Option<Timestamp>,
}

impl Canary {
    /// What a promotion calls the present step: its index, or `shadow` before the first one.
    pub fn step_name(&self) -> String {
        if self.shadow.is_some() { "shadow".into() } else { self.step.to_string() }
    }
}

/// A version that was taken back and is not tried again by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rejected {
    /// The version.
    pub version: String,
    /// Its digest, or the provider's model.
    pub digest: String,
    /// Why.
    pub reason: String,
}

/// A rollback, from the decision to its effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollback {
    /// The version that was taken back.
    pub from: String,
    /// The version that serves since.
    pub to: String,
    /// Why.
    pub reason: String,
    /// The revision that carries it to the gateways.
    pub revision: i64,
    /// When it was decided.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub decided_at: Timestamp,
    /// When the last gateway served it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub effective_at: Option<Timestamp>,
}

/// How a version's time ended or that it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// It went live.
    Deployed,
    /// It was taken back.
    RolledBack,
}

/// One line of a deployment's past.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// The version.
    #[serde(flatten)]
    pub release: Release,
    /// What became of it.
    pub outcome: Outcome,
    /// Why.
    pub reason: String,
    /// When.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// Of a version that went live: the one that served before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Of a version that was taken back: the one that serves since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

/// Everything a rollout remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Grows by one whenever what gateways must serve changes.
    #[serde(default)]
    pub revision: i64,
    /// Names the current attempt; commands refer to it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rollout_id: String,
    /// The version that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<Side>,
    /// The version on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// What the canary's analysis knows; after a rollout, what it knew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
    /// The version that an undo goes back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Release>,
    /// The version that was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejected>,
    /// The last rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rollback: Option<Rollback>,
    /// What went live and what was taken back, newest first, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub history: Vec<HistoryEntry>,
    /// Whether a canary is held where it is by `spec.paused` or `drover rollout pause`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// What was done and by whom, newest first, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub audit: Vec<Entry>,
    /// The commands that were carried out.
    #[serde(default)]
    pub handled: Commands,
}

impl State {
    /// The version that serves.
    pub fn stable_version(&self) -> Option<&str> {
        self.stable.as_ref().map(|side| side.release.version.as_str())
    }

    /// The version on trial.
    pub fn canary_version(&self) -> Option<&str> {
        self.canary.as_ref().map(|canary| canary.release.version.as_str())
    }

    /// Every version that has or may soon have traffic again: none of them may lose its bytes.
    pub fn versions_in_use(&self) -> impl Iterator<Item = &str> {
        let previous = self.previous.as_ref().map(|release| release.version.as_str());
        self.stable_version().into_iter().chain(self.canary_version()).chain(previous)
    }

    pub(super) fn remember(&mut self, entry: HistoryEntry) {
        self.history.insert(0, entry);
        self.history.truncate(HISTORY_LIMIT);
    }

    /// The newest version that went live and was not taken back since, other than `but`.
    pub(super) fn earlier_release(&self, but: &[&str]) -> Option<Release> {
        let mut live =
            self.history.iter().filter(|entry| entry.outcome == Outcome::Deployed).map(|entry| &entry.release);
        live.find(|r| !but.contains(&r.version.as_str()) && self.taken_back(&r.version).is_none()).cloned()
    }

    /// Why a version was taken back, if that was the last that became of it.
    pub(super) fn taken_back(&self, version: &str) -> Option<&str> {
        let last = self.history.iter().find(|entry| entry.release.version == version);
        last.filter(|entry| entry.outcome == Outcome::RolledBack).map(|entry| &*entry.reason)
    }
}

/// The id of the rollout after `current`: `PREFIX-N` with N counting up.
pub fn next_rollout_id(prefix: &str, current: &str) -> String {
    let number: u64 = current.rsplit_once('-').and_then(|(_, n)| n.parse().ok()).unwrap_or(0);
    format!("{prefix}-{}", number + 1)
}
