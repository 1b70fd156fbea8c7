//! The one writer. What waits together is one transaction; nobody sees a change before it is on disk.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Change, Entry, Expected, Refused, State,
    body::Draft,
    disk::{self, Disk, Forgotten},
};

/// How many changes are remembered for watchers that come back.
const REMEMBERED: usize = 10_000;
/// How many more may gather before the oldest are forgotten.
const SLACK: usize = 500;
const BATCH: usize = 256;

/// A write that waits.
pub struct Request {
    pub resource: Arc<str>,
    pub path: String,
    pub expected: Expected,
    pub delete: bool,
    pub draft: Draft,
    pub answer: Answer,
}

type Outcome = Result<Arc<Entry>, Refused>;
type Answer = oneshot::Sender<Outcome>;

/// Carries out the writes.
pub struct Writer {
    pub(super) disk: Disk,
    pub(super) state: Arc<RwLock<State>>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) announce: watch::Sender<u64>,
}

/// What a batch of writes comes to.
#[derive(Default)]
struct Staged {
    changes: Vec<Change>,
    answers: Vec<(Answer, Outcome)>,
}

impl Writer {
    /// Runs until every `Store` is gone.
    pub async fn run(&mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.requests.recv_many(&mut batch, BATCH).await > 0 {
            self.carry_out(batch.drain(..)).await;
        }
    }

    async fn carry_out(&mut self, batch: impl Iterator<Item = Request>) {
        let Staged { changes, answers } = self.stage(batch);
        let (revision, forgotten) = self.read(|state| (state.revision, to_forget(state, changes.len())));
        let stored = if changes.is_empty() { Ok(()) } else { self.disk.store(&changes, forgotten.as_ref()).await };
        if stored.is_ok() {
            let reached = changes.last().map_or(revision, |change| change.entry.revision);
            self.show(changes, forgotten.map(|forgotten| forgotten.revision));
            self.announce.send_if_modified(|announced| std::mem::replace(announced, reached) != reached);
        }
        for (answer, outcome) in answers {
            let failed = |error: &sqlx::Error| Err(Refused::Storage(disk::advice(error)));
            // Whoever asked may have gone.
            let _ = answer.send(stored.as_ref().map_or_else(failed, |()| outcome));
        }
    }

    /// Decides each write on what is there after the ones before it.
    fn stage(&self, batch: impl Iterator<Item = Request>) -> Staged {
        let written = Timestamp::now().as_second();
        let mut latest: HashMap<(Arc<str>, String), Option<Arc<Entry>>> = HashMap::new();
        let mut staged = Staged::default();
        let mut revision = self.read(|state| state.revision);
        for Request { resource, path, expected, delete, draft, answer } in batch {
            let key = (resource, path);
            let stored = || self.read(|state| state.get(&key.0, &key.1).cloned());
            let before = latest.get(&key).cloned().unwrap_or_else(stored);
            let fits = match expected {
                Expected::Absent => before.is_none() && !delete,
                Expected::Revision(expected) => before.as_ref().is_some_and(|entry| entry.revision == expected),
            };
            if !fits {
                staged.answers.push((answer, Err(Refused::Unexpected)));
                continue;
            }
            revision += 1;
            let (body, about) = draft.numbered(revision);
            let (resource, path) = key.clone();
            let entry = Entry { resource, path, revision, body, about: about.into(), written };
            let entry = Arc::new(entry.following(before.as_ref()));
            latest.insert(key, (!delete).then(|| entry.clone()));
            staged.changes.push(Change { entry: entry.clone(), deleted: delete, before });
            staged.answers.push((answer, Ok(entry)));
        }
        staged
    }

    fn show(&self, changes: Vec<Change>, forgotten: Option<u64>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            state.revision = change.entry.revision;
            state.put(&change.entry, change.deleted);
            state.history.push_back(change);
        }
        if let Some(revision) = forgotten {
            state.forgotten = revision;
            let old = state.history.partition_point(|change| change.entry.revision <= revision);
            state.history.drain(..old);
        }
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The oldest changes, when there are too many of them with `more` new ones.
fn to_forget(state: &State, more: usize) -> Option<Forgotten> {
    let too_many = (state.history.len() + more).checked_sub(REMEMBERED).filter(|count| *count > SLACK)?;
    let oldest = state.history.range(..too_many.min(state.history.len()));
    let revision = oldest.clone().next_back()?.entry.revision;
    let outdated = oldest.flat_map(|change| {
        let gone = change.deleted.then_some(change.entry.revision);
        gone.into_iter().chain(change.before.as_ref().map(|before| before.revision))
    });
    let outdated: BTreeSet<u64> = outdated.collect();
    Some(Forgotten { revision, outdated })
}
