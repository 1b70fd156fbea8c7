//! What this gateway knows of one node at this moment. Requests read and change it without waiting for each other.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, futures::OwnedNotified};

use crate::domain::routing::{Ending, Health, Standing};

/// One node's requests under way and its health. It belongs to the node, not to a table, so it survives a new table.
#[derive(Debug, Default)]
pub struct NodeState {
    in_flight: AtomicU32,
    /// As the newest table has it.
    limit: AtomicU32,
    /// Milliseconds since the gateway started until which the node is put aside; 0 while it is sound.
    aside_until: AtomicU64,
    /// Whether a request is finding out how a node does that was put aside.
    on_trial: AtomicBool,
    /// Whether `health` says anything.
    is_troubled: AtomicBool,
    health: Mutex<Health>,
    /// By digest, as all names of one model share its runner.
    windows: Mutex<HashMap<String, Window>>,
    /// Requests that give way to those of callers.
    lent: AtomicU32,
    /// Tells one of them that a caller waits.
    wanted: Arc<Notify>,
}

/// The context window of a model's runner.
#[derive(Debug, Default)]
struct Window {
    /// The widest that it was called with; 0: none so far.
    widest: Arc<AtomicU64>,
    /// Whether the model was in memory as of the last table.
    was_loaded: bool,
}

impl NodeState {
    /// Requests under way, and how many there may be.
    pub fn load(&self) -> (u32, u32) {
        (self.in_flight.load(Ordering::Relaxed), self.limit.load(Ordering::Relaxed))
    }

    /// Where the window of a model's runner is kept. One that was `loaded` and isn't any more has none; a table that doesn't
    /// know yet of a model just loaded changes nothing.
    pub fn window(&self, digest: &str, loaded: bool) -> Arc<AtomicU64> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(digest.to_owned()).or_default();
        if window.was_loaded && !loaded {
            window.widest.store(0, Ordering::Relaxed);
        }
        window.was_loaded = loaded;
        window.widest.clone()
    }

    /// Counts one more request that gives way to callers', and says when it has to.
    pub fn lend(&self) -> OwnedNotified {
        self.lent.fetch_add(1, Ordering::SeqCst);
        self.wanted.clone().notified_owned()
    }

    /// Counts one less.
    pub fn returned(&self) {
        self.lent.fetch_sub(1, Ordering::SeqCst);
    }

    /// Has one of them give way, if there is one.
    pub fn reclaim(&self) -> bool {
        let has_lent = self.lent.load(Ordering::SeqCst) > 0;
        if has_lent {
            self.wanted.notify_one();
        }
        has_lent
    }

    /// Allows so many requests at once.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Counts one more request, if there is room; says whether it is the one that tries a node put aside.
    pub fn enter(&self, now: impl FnOnce() -> Duration) -> Option<bool> {
        let limit = self.limit.load(Ordering::Relaxed);
        let more = |in_flight: u32| (in_flight < limit).then(|| in_flight + 1);
        self.in_flight.fetch_update(Ordering::SeqCst, Ordering::Relaxed, more).ok()?;
        let until = self.aside_until.load(Ordering::Relaxed);
        Some(until != 0 && millis(now()) >= until && !self.on_trial.swap(true, Ordering::Relaxed))
    }

    /// Counts one request less; whoever waits may come in after that.
    pub fn leave(&self, was_trial: bool) {
        if was_trial {
            self.on_trial.store(false, Ordering::Relaxed);
        }
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether other nodes go first: it is put aside, or being tried by another request.
    pub fn is_suspect(&self, now: impl FnOnce() -> Duration) -> bool {
        match self.aside_until.load(Ordering::Relaxed) {
            0 => false,
            until => millis(now()) < until || self.on_trial.load(Ordering::Relaxed),
        }
    }

    /// How it stands, and how long it stays aside.
    pub fn standing(&self, now: Duration) -> (Standing, Duration) {
        match Duration::from_millis(self.aside_until.load(Ordering::Relaxed)) {
            Duration::ZERO => (Standing::Sound, Duration::ZERO),
            until if now < until => (Standing::Aside, until - now),
            _ => (Standing::OnTrial, Duration::ZERO),
        }
    }

    /// Notes how a request ended.
    pub fn note(&self, ending: Ending, now: impl FnOnce() -> Duration) {
        if ending == Ending::Answered && !self.is_troubled.load(Ordering::Relaxed) {
            return;
        }
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        *health = health.after(ending, now());
        self.is_troubled.store(*health != Health::default(), Ordering::Relaxed);
        self.aside_until.store(health.aside_until().map_or(0, |until| millis(until).max(1)), Ordering::Relaxed);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
