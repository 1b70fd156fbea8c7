//! The attempts that wait, run or failed: one at most for each node and model, however many objects want it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube_runtime::reflector::ObjectRef;
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;

use super::{
    job::{JITTER, Route, Terms},
    metrics::Metrics,
};
use crate::{
    api::{ModelPull, OllamaNode},
    domain::{
        model_name::ModelName,
        pull::{Attempt, Failure, Hold, Line, Progress, Queue, Stage, Want},
    },
};

/// A node's URL and a model's full name.
pub type Key = (String, String);

/// Attempts, and a lock for each node.
pub struct Pulling {
    state: Mutex<State>,
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    changed: Notify,
    /// What is counted.
    pub metrics: Metrics,
}

struct State {
    attempts: HashMap<Key, Entry>,
    /// The attempts that each object wants.
    wants: HashMap<ObjectRef<ModelPull>, HashSet<Key>>,
    queue: Queue<Key, ObjectRef<ModelPull>>,
    next_number: u64,
    /// When a node is asked again for a model whose tag an object follows without a mirror.
    checks: HashMap<(ObjectRef<ModelPull>, String), Timestamp>,
    /// Objects whose tag somebody wants looked up again.
    refreshes: HashMap<ObjectRef<ModelPull>, Refreshing>,
    /// Names that Drover put on a node, or is about to.
    put: HashMap<ObjectRef<OllamaNode>, BTreeSet<String>>,
    /// Objects for which was said that the mirror is passed by.
    bypassed: HashSet<ObjectRef<ModelPull>>,
}

/// A request to look up a tag again.
#[derive(Clone)]
pub struct Refreshing {
    id: String,
    /// Since when it is known.
    pub since: Timestamp,
    /// The URLs of nodes that asked the registry themselves since then.
    pub asked: HashSet<String>,
}

struct Entry {
    attempt: Attempt,
    wanted_by: HashSet<ObjectRef<ModelPull>>,
    terms: Arc<Terms>,
    cancel: CancellationToken,
    number: u64,
    is_doubtful: bool,
    unreached: u32,
}

/// An attempt whose turn it is; when it goes, the turn is over.
pub struct Turn {
    /// Which one.
    pub key: Key,
    /// What it is about.
    pub terms: Arc<Terms>,
    /// Breaks it off.
    pub cancel: CancellationToken,
    number: u64,
    began: Timestamp,
    pulling: Arc<Pulling>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pulling.state().queue.end(&self.key);
        self.pulling.count();
        self.pulling.changed.notify_one();
    }
}

impl Pulling {
    /// Nothing yet; at most `limit` attempts will run at once.
    pub fn new(limit: usize, metrics: Metrics) -> Self {
        let state = State {
            attempts: HashMap::new(),
            wants: HashMap::new(),
            queue: Queue::new(limit),
            next_number: 0,
            checks: HashMap::new(),
            refreshes: HashMap::new(),
            put: HashMap::new(),
            bypassed: HashSet::new(),
        };
        Self { state: Mutex::new(state), locks: Mutex::default(), changed: Notify::new(), metrics }
    }

    /// How the attempts for a model on a node stand; `None` when there was none.
    pub fn attempt(&self, key: &Key) -> Option<Attempt> {
        let state = self.state();
        let mut attempt = state.attempts.get(key)?.attempt.clone();
        if matches!(attempt.stage, Stage::Queued(_)) {
            attempt.stage = Stage::Queued(state.queue.hold(key));
        }
        Some(attempt)
    }

    /// The lock that pulls, copies and deletions on one node share.
    pub async fn lock(&self, url: &str) -> OwnedMutexGuard<()> {
        self.node_lock(url).lock_owned().await
    }

    /// The same, unless somebody has it.
    pub fn try_lock(&self, url: &str) -> Option<OwnedMutexGuard<()>> {
        self.node_lock(url).try_lock_owned().ok()
    }

    /// An object no longer wants anything: what nobody else wants is broken off.
    pub fn release(&self, pull: &ObjectRef<ModelPull>) {
        self.keep_only(pull, &HashSet::new());
        let mut state = self.state();
        state.checks.retain(|(object, _), _| object != pull);
        state.refreshes.remove(pull);
        state.bypassed.remove(pull);
    }

    /// An object wants these and no others any more: nodes go, and its spec may name another model.
    pub fn keep_only(&self, pull: &ObjectRef<ModelPull>, keys: &HashSet<Key>) {
        let outdated: Vec<Key> = {
            let state = self.state();
            let wanted = state.wants.get(pull).into_iter().flatten();
            wanted.filter(|key| !keys.contains(key)).cloned().collect()
        };
        for key in outdated {
            self.release_one(&key, pull);
        }
    }

    /// An object no longer wants an attempt, or has seen what it came to.
    pub fn release_one(&self, key: &Key, pull: &ObjectRef<ModelPull>) {
        let mut state = self.state();
        state.queue.leave(key, pull);
        if let Some(wants) = state.wants.get_mut(pull) {
            wants.remove(key);
            if wants.is_empty() {
                state.wants.remove(pull);
            }
        }
        let Some(entry) = state.attempts.get_mut(key) else { return };
        entry.wanted_by.remove(pull);
        if entry.wanted_by.is_empty() {
            entry.cancel.cancel();
            state.attempts.remove(key);
        }
        drop(state);
        self.count();
    }

    /// The object's spec changed: what failed is tried again now, not after the wait.
    pub fn retry_now(&self, pull: &ObjectRef<ModelPull>, now: Timestamp) {
        let mut state = self.state();
        let State { attempts, wants, .. } = &mut *state;
        for key in wants.get(pull).into_iter().flatten() {
            if let Some(failure) = attempts.get_mut(key).and_then(|entry| entry.attempt.failure.as_mut()) {
                failure.retry_at = now;
            }
        }
    }

    /// Takes note of the request that an object has, if it has one; whether that is new.
    pub fn note_refresh(&self, pull: &ObjectRef<ModelPull>, id: Option<&str>, now: Timestamp) -> bool {
        let refreshes = &mut self.state().refreshes;
        let Some(id) = id else {
            refreshes.remove(pull);
            return false;
        };
        let is_new = refreshes.get(pull).is_none_or(|known| known.id != id);
        if is_new {
            let noted = Refreshing { id: id.to_owned(), since: now, asked: HashSet::new() };
            refreshes.insert(pull.clone(), noted);
        }
        is_new
    }

    /// The request that was noted for an object.
    pub fn refresh(&self, pull: &ObjectRef<ModelPull>) -> Option<Refreshing> {
        self.state().refreshes.get(pull).cloned()
    }

    /// Takes part in the attempt that waits or runs, or lets one wait for its turn. What it waits for.
    pub fn want(&self, key: &Key, pull: &ObjectRef<ModelPull>, want: Want, terms: impl FnOnce() -> Terms) -> Hold {
        let mut state = self.state();
        let State { attempts, wants, queue, next_number, .. } = &mut *state;
        wants.entry(pull.clone()).or_default().insert(key.clone());
        match attempts.get_mut(key) {
            Some(entry) if matches!(entry.attempt.stage, Stage::Running(_)) => {
                entry.wanted_by.insert(pull.clone());
                return Hold::Turn;
            }
            Some(entry) => {
                entry.wanted_by.insert(pull.clone());
                // While it waits, its object's spec may change.
                if !entry.attempt.is_open() || entry.terms.pull == *pull {
                    entry.attempt.stage = Stage::Queued(Hold::Turn);
                    entry.terms = Arc::new(terms());
                }
            }
            None => {
                let entry = Entry {
                    attempt: Attempt::new(Stage::Queued(Hold::Turn)),
                    wanted_by: HashSet::from([pull.clone()]),
                    terms: Arc::new(terms()),
                    cancel: CancellationToken::new(),
                    number: *next_number,
                    is_doubtful: false,
                    unreached: 0,
                };
                *next_number += 1;
                attempts.insert(key.clone(), entry);
            }
        }
        queue.wait(key.clone(), &key.0, pull.clone(), want);
        let hold = queue.hold(key);
        drop(state);
        self.count();
        self.changed.notify_one();
        hold
    }

    /// The next attempt whose turn it is; waits until there is one.
    pub async fn next_turn(self: &Arc<Self>) -> Turn {
        loop {
            if let Some(turn) = self.start_next() {
                self.count();
                return turn;
            }
            self.changed.notified().await;
        }
    }

    fn start_next(self: &Arc<Self>) -> Option<Turn> {
        let mut state = self.state();
        let State { attempts, queue, next_number, .. } = &mut *state;
        let key = queue.start_next()?;
        // What waits in the queue has an entry: both are made and taken away together.
        let entry = attempts.get_mut(&key)?;
        entry.attempt.stage = Stage::Running(Progress::default());
        entry.cancel = CancellationToken::new();
        entry.number = *next_number;
        *next_number += 1;
        let (terms, cancel, number) = (entry.terms.clone(), entry.cancel.clone(), entry.number);
        Some(Turn { key, terms, cancel, number, began: Timestamp::now(), pulling: self.clone() })
    }

    /// Whether an object is due to have a node asked again; the first time at some moment of its interval.
    pub fn next_check(&self, pull: &ObjectRef<ModelPull>, url: &str, interval: Duration, now: Timestamp) -> Timestamp {
        let mut state = self.state();
        let within = |share: f64| now.saturating_add(interval.mul_f64(share)).unwrap_or(Timestamp::MAX);
        let check = state.checks.entry((pull.clone(), url.to_owned())).or_insert_with(|| within(rand::random()));
        // A shorter interval counts at once.
        if *check > within(1.0 + JITTER) {
            *check = within(rand::random());
        }
        *check
    }

    /// Drover puts a model on a node, or is about to: recorded with the node's next status.
    pub fn put(&self, node: &ObjectRef<OllamaNode>, model: &str) {
        self.state().put.entry(node.clone()).or_default().insert(model.to_owned());
    }

    /// What Drover put on a node and its status doesn't say yet.
    pub fn take_put(&self, node: &ObjectRef<OllamaNode>, recorded: impl Fn(&str) -> bool) -> Vec<String> {
        let mut state = self.state();
        let Some(names) = state.put.get_mut(node) else { return Vec::new() };
        names.retain(|name| !recorded(name));
        let left: Vec<String> = names.iter().cloned().collect();
        if left.is_empty() {
            state.put.remove(node);
        }
        left
    }

    /// Whether an attempt waits for a node.
    pub fn is_awaited(&self, url: &str) -> bool {
        self.state().queue.waits_for(url.trim_end_matches('/'))
    }

    /// Whether Drover put it there just now.
    pub fn is_put(&self, node: &ObjectRef<OllamaNode>, model: &str) -> bool {
        self.state().put.get(node).is_some_and(|names| names.iter().any(|name| ModelName::same(name, model)))
    }

    fn node_lock(&self, url: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.entry(url.trim_end_matches('/').into()).or_default().clone()
    }

    fn count(&self) {
        let state = self.state();
        self.metrics.waiting.set(state.queue.waiting() as i64);
        self.metrics.running.set(state.queue.running() as i64);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Whether others wait for it to end.
    pub fn is_wanted(&self) -> bool {
        self.pulling.state().queue.others_want(&self.key.0)
    }

    /// Whether another attempt on the node follows it.
    pub fn is_followed(&self) -> bool {
        self.pulling.is_awaited(&self.key.0)
    }

    /// The objects that want it.
    pub fn wanted_by(&self) -> Vec<ObjectRef<ModelPull>> {
        self.with(|entry| entry.wanted_by.iter().cloned().collect()).unwrap_or_default()
    }

    /// How many bytes will come altogether.
    pub fn announce(&self, bytes: i64) {
        self.with(|entry| entry.attempt.stage = Stage::Running(Progress::of(bytes)));
    }

    /// Takes in a line; the progress after it.
    pub fn fold(&self, line: &Line, now: Timestamp) -> Progress {
        let folded = self.with(|entry| match &mut entry.attempt.stage {
            Stage::Running(progress) => {
                progress.fold(line, now);
                progress.clone()
            }
            _ => Progress::default(),
        });
        folded.unwrap_or_default()
    }

    /// It failed; what was known of the last failure is given to `failure`. The objects that want it.
    pub fn fail(
        &self,
        is_doubtful: bool,
        failure: impl FnOnce(Option<&Failure>) -> Failure,
    ) -> Vec<ObjectRef<ModelPull>> {
        let objects = self.with(|entry| {
            entry.attempt.failure = Some(failure(entry.attempt.failure.as_ref()));
            entry.attempt.stage = Stage::Failed;
            entry.is_doubtful |= is_doubtful;
            entry.wanted_by.iter().cloned().collect()
        });
        objects.unwrap_or_default()
    }

    /// It succeeded. The objects that want it.
    pub fn succeed(&self, digest: String, size_bytes: i64) -> Vec<ObjectRef<ModelPull>> {
        let mut state = self.pulling.state();
        let State { attempts, refreshes, .. } = &mut *state;
        let Some(entry) = attempts.get_mut(&self.key).filter(|entry| entry.number == self.number) else {
            return Vec::new();
        };
        let before = entry.terms.before.clone();
        entry.attempt.failure = None;
        entry.attempt.stage = Stage::Done { digest, size_bytes, before };
        entry.is_doubtful = false;
        if matches!(entry.terms.route, Route::Direct) || entry.attempt.bypass.is_some() {
            for object in &entry.wanted_by {
                let asked = refreshes.get_mut(object).filter(|refresh| refresh.since <= self.began);
                if let Some(refresh) = asked {
                    refresh.asked.insert(self.key.0.clone());
                }
            }
        }
        entry.wanted_by.iter().cloned().collect()
    }

    /// The node is asked again after an interval.
    pub fn check_after(&self, wait: Duration) {
        let at = Timestamp::now().saturating_add(wait).unwrap_or(Timestamp::MAX);
        let mut state = self.pulling.state();
        state.checks.insert((self.terms.pull.clone(), self.key.0.clone()), at);
    }

    /// Whether an earlier attempt ended while Ollama verified the bytes, which then takes them as good.
    pub fn is_doubtful(&self) -> bool {
        self.with(|entry| entry.is_doubtful).unwrap_or_default()
    }

    /// The node did not reach the mirror; how often that happened in a row.
    pub fn unreached(&self) -> u32 {
        let count = self.with(|entry| {
            entry.unreached += 1;
            entry.unreached
        });
        count.unwrap_or_default()
    }

    /// The node pulls directly, and why; `None` when it reached the mirror.
    pub fn bypass(&self, why: Option<String>) {
        self.with(|entry| {
            if why.is_none() {
                entry.unreached = 0;
            }
            entry.attempt.bypass = why;
        });
    }

    /// Whether nothing was said about passing the mirror by for this object; from now on something was.
    pub fn is_first_bypass(&self) -> bool {
        self.pulling.state().bypassed.insert(self.terms.pull.clone())
    }

    fn with<T>(&self, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let mut state = self.pulling.state();
        state.attempts.get_mut(&self.key).filter(|entry| entry.number == self.number).map(change)
    }
}

/// The attempt for a model on the node at a URL.
pub fn key(url: &str, model: &str) -> Key {
    let full = model.parse::<ModelName>().map_or_else(|_| model.to_owned(), |name| name.to_string());
    (url.trim_end_matches('/').to_owned(), full.to_ascii_lowercase())
}
