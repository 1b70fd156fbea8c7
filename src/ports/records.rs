//! Where run records are kept.

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::{
    run_id::RunId,
    run_record::{self, Feedback, RunFilter},
};

/// One request's record.
pub type RunRecord = run_record::RunRecord<Value>;

/// Some records, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The records.
    pub items: Vec<RunRecord>,
    /// After which one the next page begins; `None` at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<RunId>,
}

/// Why records could not be kept or read. Holds nothing of what was said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    /// The store can't be written or read.
    #[error("run records can't be stored or read: {0}")]
    Down(String),
    /// The store takes less than it is given.
    #[error("more run records wait to be stored than fit")]
    Overloaded,
}

/// What became of feedback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It is the first for its run.
    First,
    /// There was some before: of several who come at once, one is the first.
    Again,
    /// There is no such run.
    Unknown,
}

/// Keeps run records.
pub trait Records: Send + Sync {
    /// Whether a record could be committed, as far as is known now; asks nobody.
    ///
    /// # Errors
    /// Why not.
    fn ready(&self) -> Result<(), RecordsError>;

    /// Takes a record, also when nobody waits for the future, which ends when the record outlives this process.
    fn commit(&self, record: RunRecord) -> BoxFuture<'static, Result<(), RecordsError>>;

    /// One record; everything that was committed is found.
    fn get(&self, id: RunId) -> BoxFuture<'_, Result<Option<RunRecord>, RecordsError>>;

    /// The newest `limit` records that fit.
    fn list(&self, filter: RunFilter, limit: usize) -> BoxFuture<'_, Result<Page, RecordsError>>;

    /// Notes what somebody thought of an answer, in the place of what was noted before.
    fn note_feedback(&self, id: RunId, feedback: Feedback) -> BoxFuture<'_, Result<Noted, RecordsError>>;
}
