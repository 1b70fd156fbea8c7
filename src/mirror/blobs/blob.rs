//! One blob: which of its bytes are there, who brings the others and who waits for them.

use std::{
    collections::HashMap,
    fs::File,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use jiff::Timestamp;
use sha2::Sha256;
use tokio::{sync::watch, time::Instant};

use super::partial::Files;
use crate::{
    domain::{
        digest::Digest,
        ranges::{Ranges, Running, Supply, supply},
    },
    mirror::{locked, refusal::Refusal, upstream::Origin},
};

/// The end of a blob is not given out before the whole is verified, so that nobody ever takes damaged bytes for a
/// complete blob.
const HELD_BACK: u64 = 64 << 10;
/// A fetch goes on so long after the last reader that it was for went away: nodes come back after a moment.
const GRACE: Duration = Duration::from_secs(10);

/// A blob, complete or not.
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where it is.
    pub(super) files: Files,
    state: Mutex<State>,
    /// The keeper's, which there is one of at most.
    pub(super) hashed: Mutex<Hashed>,
    changed: watch::Sender<()>,
}

struct State {
    stage: Stage,
    have: Ranges,
    fetches: Vec<Fetch>,
    readers: HashMap<u64, Range<u64>>,
    next_id: u64,
    /// The registry sends all of the blob whatever it is asked for.
    whole_only: bool,
    kept: bool,
    /// All bytes are there and right, though perhaps not yet under the blob's own name.
    is_verified: bool,
    used: Timestamp,
}

#[derive(Clone)]
enum Stage {
    Partial(Arc<File>),
    Complete,
    /// Damaged, removed or failed for good: this value is no longer the one in the store.
    Gone(Refusal),
}

struct Fetch {
    running: Running,
    outcome: Outcome,
    origin: Arc<Origin>,
    wanted: Instant,
}

/// How a fetch ended, once it has.
pub type Outcome = Arc<OnceLock<Result<(), Refusal>>>;

/// A fetch that a reader waits for.
pub struct Awaited {
    pub outcome: Outcome,
    pub origin: Arc<Origin>,
}

/// What a reader does next.
pub enum Step {
    /// Read so many bytes: they are there.
    Read(u64),
    /// Wait for a change.
    Wait(Option<Awaited>),
    /// Start this fetch, then wait.
    Fetch { id: u64, awaited: Awaited },
    /// Give up.
    Fail(Refusal),
}

/// What the keeper of a blob finds to do.
pub struct Kept {
    pub file: Arc<File>,
    pub have: Ranges,
    pub is_fetched: bool,
}

/// How far the contiguous beginning was hashed.
#[derive(Clone, Default)]
pub struct Hashed {
    pub sha: Sha256,
    pub at: u64,
}

impl Blob {
    pub(super) fn new(
        digest: Digest,
        size: u64,
        files: Files,
        content: Option<(File, Ranges)>,
        used: Timestamp,
    ) -> Self {
        let (stage, have) = match content {
            Some((file, have)) => (Stage::Partial(Arc::new(file)), have),
            None => (Stage::Complete, Ranges::of(std::iter::once(0..size))),
        };
        let state = State {
            stage,
            have,
            fetches: Vec::new(),
            readers: HashMap::new(),
            next_id: 0,
            whole_only: false,
            kept: false,
            is_verified: false,
            used,
        };
        Self {
            digest,
            size,
            files,
            state: Mutex::new(state),
            hashed: Mutex::default(),
            changed: watch::Sender::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Wakes whoever waits.
    fn notify(&self) {
        self.changed.send_replace(());
    }

    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Whether all of it is there and verified.
    pub fn is_complete(&self) -> bool {
        matches!(self.state().stage, Stage::Complete)
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.state().have.len()
    }

    /// Fetches under way.
    pub fn fetches(&self) -> usize {
        self.state().fetches.len()
    }

    /// Whether somebody reads or fetches it.
    pub fn is_busy(&self) -> bool {
        self.state().is_busy()
    }

    /// Lets nobody read it any more, unless somebody does.
    pub fn retire(&self, why: Refusal) -> bool {
        let mut state = self.state();
        let is_free = !state.is_busy();
        if is_free {
            state.stage = Stage::Gone(why);
        }
        is_free
    }

    /// When it was last used.
    pub fn used(&self) -> Timestamp {
        self.state().used
    }

    /// The file of a blob that isn't complete.
    pub fn partial_file(&self) -> Option<Arc<File>> {
        match &self.state().stage {
            Stage::Partial(file) => Some(file.clone()),
            _ => None,
        }
    }

    /// Counts as a reader of `range` until it is dropped; none when the blob was dropped just now.
    pub fn enter(self: &Arc<Self>, range: Range<u64>) -> Option<Reading> {
        let mut state = self.state();
        if matches!(state.stage, Stage::Gone(_)) {
            return None;
        }
        state.next_id += 1;
        state.used = Timestamp::now();
        let id = state.next_id;
        state.readers.insert(id, range);
        Some(Reading { blob: self.clone(), id })
    }

    /// What the reader of `at..end` does next; `waited` is the fetch that it waited for.
    pub fn step(&self, at: u64, end: u64, origin: Option<&Arc<Origin>>, waited: Option<Awaited>) -> Step {
        let mut state = self.state();
        let safe = match &state.stage {
            Stage::Gone(refusal) => return Step::Fail(refusal.clone()),
            Stage::Complete => self.size,
            Stage::Partial(_) if state.is_verified => self.size,
            Stage::Partial(_) => self.size.saturating_sub(HELD_BACK),
        };
        let run = state.have.run(at);
        let there = (at + run).min(safe).min(end).saturating_sub(at);
        if there > 0 {
            return Step::Read(there);
        }
        let missing = if run > 0 { state.have.gap(0, self.size).map(|gap| gap.start) } else { Some(at) };
        let Some(missing) = missing else { return Step::Wait(None) }; // for the verification
        let Some(origin) = origin else { return Step::Fail(super::not_here(&self.digest)) };
        if let Some(awaited) = waited {
            match awaited.outcome.get() {
                None => return Step::Wait(Some(awaited)),
                // Another's login or repository may have been the reason.
                Some(Err(refusal)) if awaited.origin == *origin => return Step::Fail(refusal.clone()),
                Some(_) => {}
            }
        }
        state.supply(missing, self.size, origin)
    }

    /// The bytes that a fetch shall bring next; none when its work is done or nobody wants it any more.
    pub fn rest(&self, id: u64) -> Option<Range<u64>> {
        let mut state = self.state();
        if !matches!(state.stage, Stage::Partial(_)) {
            return None;
        }
        let State { fetches, readers, whole_only, have, .. } = &mut *state;
        let first = fetches.iter().map(|fetch| fetch.running.id).min();
        let fetch = fetches.iter_mut().find(|fetch| fetch.running.id == id)?;
        let (at, end) = (fetch.running.at, fetch.running.end);
        let held_back = self.size.saturating_sub(HELD_BACK);
        // Whoever reads the end waits for all of it.
        let wants = |range: &Range<u64>| range.end > held_back || (range.start < end && at < range.end);
        if readers.values().any(wants) {
            fetch.wanted = Instant::now();
        }
        // Where everything is sent to whoever asks, one fetch brings it.
        if at >= end || fetch.wanted.elapsed() > GRACE || (*whole_only && first != Some(id)) {
            return None;
        }
        if *whole_only {
            let from = have.gap(0, self.size).map_or(self.size, |gap| gap.start);
            fetch.running.at = from;
            fetch.running.end = self.size;
            return Some(from..self.size).filter(|range| !range.is_empty());
        }
        Some(at..end)
    }

    /// The registry sends everything from the first byte on. Whether this fetch is the one that takes it.
    pub fn take_whole(&self, id: u64) -> bool {
        let mut state = self.state();
        let first = state.fetches.iter().map(|fetch| fetch.running.id).min();
        state.whole_only = true;
        first == Some(id)
    }

    /// Where a fetch ends by now.
    pub fn end_of(&self, id: u64) -> u64 {
        let state = self.state();
        state.fetches.iter().find(|fetch| fetch.running.id == id).map_or(0, |fetch| fetch.running.end)
    }

    /// These bytes are in the file.
    pub fn arrived(&self, id: u64, range: Range<u64>) {
        let mut state = self.state();
        if let Some(fetch) = state.fetches.iter_mut().find(|fetch| fetch.running.id == id) {
            fetch.running.at = range.end;
        }
        state.have.insert(range);
        drop(state);
        self.notify();
    }

    /// A fetch is over.
    pub fn ended(&self, id: u64, result: Result<(), Refusal>) {
        let mut state = self.state();
        if let Some(at) = state.fetches.iter().position(|fetch| fetch.running.id == id) {
            let fetch = state.fetches.remove(at);
            let _ = fetch.outcome.set(result); // the first and only time
        }
        drop(state);
        self.notify();
    }

    /// Whether a keeper must be started; it counts as there from now on.
    pub fn needs_keeper(&self) -> bool {
        !std::mem::replace(&mut self.state().kept, true)
    }

    /// What the keeper has to look after; nothing when the blob is complete or gone.
    pub fn kept(&self) -> Option<Kept> {
        let state = self.state();
        let Stage::Partial(file) = &state.stage else { return None };
        let is_fetched = state.have.len() == self.size;
        Some(Kept { file: file.clone(), have: state.have.clone(), is_fetched })
    }

    /// The keeper may go if nothing is fetched any more.
    pub fn release_keeper(&self, noted: u64) -> bool {
        let mut state = self.state();
        let idle = state.fetches.is_empty() && state.have.len() == noted && noted < self.size;
        state.kept = !idle;
        idle
    }

    /// The bytes are right.
    pub fn verified(&self) {
        self.state().is_verified = true;
        self.notify();
    }

    /// The bytes are verified and under their own name.
    pub fn completed(&self) {
        let mut state = self.state();
        state.stage = Stage::Complete;
        state.kept = false;
        drop(state);
        self.notify();
    }

    /// The bytes are worth nothing.
    pub fn gone(&self, refusal: Refusal) {
        let mut state = self.state();
        state.stage = Stage::Gone(refusal);
        state.kept = false;
        drop(state);
        self.notify();
    }
}

impl State {
    fn is_busy(&self) -> bool {
        !self.readers.is_empty() || !self.fetches.is_empty() || self.kept
    }

    fn supply(&mut self, at: u64, size: u64, origin: &Arc<Origin>) -> Step {
        let running: Vec<Running> = self.fetches.iter().map(|fetch| fetch.running.clone()).collect();
        let choice = match (self.whole_only, running.first()) {
            (true, Some(only)) => Supply::Join(only.id),
            (true, None) => Supply::Start { range: at..size, shorten: None },
            (false, _) => supply(at, size, &self.have, &running),
        };
        let (range, shorten) = match choice {
            Supply::Join(id) => {
                let joined = self.fetches.iter().find(|fetch| fetch.running.id == id);
                let awaited = joined.map(|f| Awaited { outcome: f.outcome.clone(), origin: f.origin.clone() });
                return Step::Wait(awaited);
            }
            Supply::Start { range, shorten } => (range, shorten),
        };
        for fetch in self.fetches.iter_mut().filter(|fetch| Some(fetch.running.id) == shorten) {
            fetch.running.end = range.start;
        }
        self.next_id += 1;
        let (id, outcome) = (self.next_id, Outcome::default());
        self.fetches.push(Fetch {
            running: Running { id, at: range.start, end: range.end },
            outcome: outcome.clone(),
            origin: origin.clone(),
            wanted: Instant::now(),
        });
        Step::Fetch { id, awaited: Awaited { outcome, origin: origin.clone() } }
    }
}

/// A reader; while it lives, the blob stays.
pub struct Reading {
    blob: Arc<Blob>,
    id: u64,
}

impl Reading {
    pub fn blob(&self) -> &Arc<Blob> {
        &self.blob
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut state = self.blob.state();
        state.readers.remove(&self.id);
        state.used = Timestamp::now();
    }
}
