//! Where runs are recorded, and what becomes of requests when they can't be.

use std::{sync::Arc, time::Duration};

use axum::http::StatusCode;
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::time::timeout;

use super::{failure::Failure, turn::give_way};
use crate::{
    ports::{Records, RecordsError, RunRecord},
    records::WhenDown,
};

/// How long an answer's end waits for its record.
const PATIENCE: Duration = Duration::from_secs(10);
/// Seconds after which a caller may try again.
const RETRY_AFTER: u32 = 5;

/// Records runs.
#[derive(Default)]
pub struct Recorder {
    records: Option<Arc<dyn Records>>,
    when_down: WhenDown,
    capture: bool,
    recorded: Counter,
    unrecorded: Counter,
    refused: Counter,
}

impl Recorder {
    /// Records in this store, with prompts and answers if `capture` says so.
    pub fn storing(records: Arc<dyn Records>, when_down: WhenDown, capture: bool) -> Self {
        Self { records: Some(records), when_down, capture, ..Self::default() }
    }

    /// Whether prompts and answers are kept.
    pub fn captures(&self) -> bool {
        self.capture && self.records.is_some()
    }

    /// Lets `/metrics` show what it counts.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("gateway_recorded_runs", "Requests whose record was stored", self.recorded.clone());
        let help = "Requests that should have been recorded, but were not";
        registry.register("gateway_unrecorded_runs", help, self.unrecorded.clone());
        let help = "Requests that were refused because their record could not have been stored";
        registry.register("gateway_refused_for_records", help, self.refused.clone());
    }

    /// Whether a request may go to a node, as far as its record is concerned; asks nobody.
    ///
    /// # Errors
    /// What the caller is told.
    pub fn check(&self) -> Result<(), Failure> {
        match &self.records {
            Some(records) if self.when_down == WhenDown::Refuse => records.ready().map_err(|error| {
                self.refused.inc();
                down(&error)
            }),
            _ => Ok(()),
        }
    }

    /// The store, for those who read it.
    ///
    /// # Errors
    /// That there is none.
    pub fn records(&self) -> Result<&dyn Records, Failure> {
        self.records.as_deref().ok_or_else(|| {
            let message = "this gateway keeps no run records: start it with data-dir or records";
            Failure::new(StatusCode::NOT_FOUND, "no_records", message)
        })
    }

    /// Ends when the record is committed, or when nobody minds that it isn't. Requests that end together are recorded together.
    ///
    /// # Errors
    /// What the caller is told instead of the end of an answer.
    pub async fn commit(&self, record: RunRecord) -> Result<(), Failure> {
        let committed = self.records.as_ref().map(|records| records.commit(record));
        give_way().await;
        let Some(committed) = committed else { return Ok(()) };
        let outcome = timeout(PATIENCE, committed)
            .await
            .unwrap_or_else(|_| Err(RecordsError::Down(format!("the record was not stored within {PATIENCE:?}"))));
        match outcome {
            Ok(()) => {
                self.recorded.inc();
                Ok(())
            }
            Err(error) => {
                self.unrecorded.inc();
                if self.when_down == WhenDown::Serve { Ok(()) } else { Err(down(&error)) }
            }
        }
    }

    /// Hands over the record of a run that nobody waits for any more.
    pub fn commit_unattended(&self, record: RunRecord) {
        if let Some(records) = &self.records {
            let counter = if records.ready().is_ok() { &self.recorded } else { &self.unrecorded };
            counter.inc();
            // The store takes it now; only what became of it goes unheard.
            drop(records.commit(record));
        }
    }
}

fn down(error: &RecordsError) -> Failure {
    let failure = Failure::new(StatusCode::SERVICE_UNAVAILABLE, "records_unavailable", error.to_string());
    failure.retry_after(RETRY_AFTER)
}
