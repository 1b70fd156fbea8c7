//! Who did what and why: kept in the state, so that it is written together with what was done.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Notice, State};

/// The audit in a status keeps this many entries.
pub const AUDIT_LIMIT: usize = 20;
/// Who acts where nobody asked: the controller itself, because time has passed or evidence has come.
pub const NOBODY: &str = "drover";
/// Who asked where that can't be told.
const UNKNOWN: &str = "unknown";

/// One thing that was done to a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Counts up from 1 over the life of the deployment.
    pub number: u64,
    /// When.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// What: the reason of its event, such as `RolledBack`.
    pub action: String,
    /// The version that it was done to.
    pub version: String,
    /// What and why, in words.
    pub message: String,
    /// Who asked for it: `drover` where nobody did.
    pub by: String,
    /// The rollout that it belongs to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rollout_id: String,
}

/// Who last set what a decision rests on, as far as the API knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authors {
    /// `spec.version`.
    pub version: Option<String>,
    /// `spec.paused`.
    pub paused: Option<String>,
    /// `drover.dev/promote`.
    pub promote: Option<String>,
    /// `drover.dev/undo`.
    pub undo: Option<String>,
    /// `drover.dev/abort`.
    pub abort: Option<String>,
    /// `drover.dev/retry`.
    pub retry: Option<String>,
    /// `drover.dev/pause`.
    pub pause: Option<String>,
}

/// One of them, in a word.
pub(super) fn name(author: Option<&String>) -> &str {
    author.map_or(UNKNOWN, String::as_str)
}

impl State {
    /// Notes what happened; the oldest entries make room.
    pub(super) fn note(&mut self, notices: &[Notice], now: Timestamp) {
        for notice in notices {
            let entry = Entry {
                number: self.audit.first().map_or(1, |last| last.number + 1),
                at: now,
                action: notice.reason.into(),
                version: notice.version.clone(),
                message: notice.message.clone(),
                by: notice.by.clone(),
                rollout_id: self.rollout_id.clone(),
            };
            self.audit.insert(0, entry);
        }
        self.audit.truncate(AUDIT_LIMIT);
    }
}
