//! Records of requests that end together are written together.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::SetOnce, time::Instant};

use super::{
    down,
    journal::{Journal, Written},
};
use crate::ports::RecordsError;

/// A write that takes longer is taken for one that won't end soon.
const LONG: Duration = Duration::from_secs(1);

type Outcome = SetOnce<Result<Written, RecordsError>>;

/// Adds lines to a journal, as many at once as there are.
pub struct Batches {
    journal: Arc<Journal>,
    pending: Mutex<Pending>,
}

/// What nobody writes yet.
#[derive(Default)]
struct Pending {
    lines: Vec<u8>,
    /// Of these lines.
    outcome: Arc<Outcome>,
    /// Since when somebody writes what was pending before. That one goes on with this, so that a disk that hangs holds up
    /// one worker, and what stands in that one's line, but not all of them.
    writing: Option<Instant>,
}

/// A line that was added. It is written when the first of a batch is waited for, or goes.
pub struct Added {
    batches: Arc<Batches>,
    outcome: Arc<Outcome>,
}

impl Batches {
    /// Before this journal.
    pub fn new(journal: Arc<Journal>) -> Self {
        Self { journal, pending: Mutex::default() }
    }

    /// Whether the next line will probably be written.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), RecordsError> {
        if self.lock().writing.is_some_and(|since| since.elapsed() > LONG) {
            return Err(down(format!("the disk has been writing for more than {LONG:?}")));
        }
        self.journal.ready()
    }

    /// Adds a line.
    pub fn add(self: &Arc<Self>, line: &[u8]) -> Added {
        let mut pending = self.lock();
        pending.lines.extend_from_slice(line);
        Added { batches: self.clone(), outcome: pending.outcome.clone() }
    }

    /// Has the lines of this outcome written, if nobody does that already.
    fn write(&self, outcome: &Arc<Outcome>) {
        let mut pending = self.lock();
        if !Arc::ptr_eq(&pending.outcome, outcome) || pending.writing.is_some() {
            return;
        }
        while !pending.lines.is_empty() {
            pending.writing = Some(Instant::now());
            let (lines, outcome) = (mem::take(&mut pending.lines), mem::take(&mut pending.outcome));
            drop(pending);
            // Set only here.
            let _ = outcome.set(self.journal.append(&lines));
            pending = self.lock();
        }
        pending.writing = None;
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Added {
    /// Ends when the line is as sure as it shall be.
    ///
    /// # Errors
    /// When the disk doesn't take it.
    pub async fn settled(self) -> Result<(), RecordsError> {
        self.batches.write(&self.outcome);
        let written = self.outcome.wait().await.clone()?;
        written.settled().await
    }
}

impl Drop for Added {
    fn drop(&mut self) {
        // Nothing to do once it is written.
        self.batches.write(&self.outcome);
    }
}
