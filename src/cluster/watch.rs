//! One watch a kind, one store, and word of every change after the store has it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use kube::{
    Api,
    core::{DeserializeGuard, ObjectMeta},
};
use kube_runtime::{
    WatchStreamExt,
    reflector::{self, ObjectRef, Store, store::Writer},
    utils::Backoff,
    watcher::{self, Event},
};
use tokio::sync::{Notify, broadcast, watch};
use tracing::{error, warn};

use super::{
    Kind,
    index::{Index, Words},
};

/// Below the idle limits of common load balancers, so that a connection they dropped silently is noticed.
const WATCH_SECONDS: u32 = 200;
const REMEMBERED_CHANGES: usize = 4096;
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// What changed.
#[derive(Clone, Debug)]
pub enum Change<K: Kind> {
    /// One object.
    One(Changed<K>),
    /// Any number of them.
    Many,
}

/// One object before and after a change.
#[derive(Clone, Debug)]
pub struct Changed<K> {
    /// `None`: it is new.
    pub before: Option<Arc<K>>,
    /// `None`: it is gone.
    pub after: Option<Arc<K>>,
}

impl<K> Changed<K> {
    /// The object in each state that it was in.
    pub fn states(&self) -> impl Iterator<Item = &Arc<K>> {
        self.before.iter().chain(&self.after)
    }
}

impl<K: Kind> Changed<K> {
    /// Whether nothing but the status changed: a change of the spec raises the generation.
    pub fn is_of_status_only(&self) -> bool {
        let but_version = |object: &Arc<K>| ObjectMeta { resource_version: None, ..object.meta().clone() };
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => but_version(before) == but_version(after),
            _ => false,
        }
    }
}

/// The watched objects of one kind.
#[derive(Clone)]
pub struct Watched<K: Kind> {
    store: Store<K>,
    index: Index<K>,
    changes: broadcast::Sender<Change<K>>,
    complete: watch::Receiver<bool>,
    unreadable: Arc<AtomicBool>,
    restart: Arc<Notify>,
}

impl<K: Kind> Watched<K> {
    /// A view of the objects behind `api`, which are also found by words, and the service that keeps it current.
    pub fn new(
        api: Api<DeserializeGuard<K>>,
        words: Words<K>,
    ) -> (Self, impl Future<Output = Result<(), String>> + Send + 'static)
    where
        DeserializeGuard<K>: Kind,
    {
        let (store, writer) = reflector::store();
        let (changes, _) = broadcast::channel(REMEMBERED_CHANGES);
        let (completed, complete) = watch::channel(false);
        let (unreadable, restart) = (Arc::<AtomicBool>::default(), Arc::<Notify>::default());
        let index = Index::new(words);
        let (reader, index_kept) = (store.clone(), index.clone());
        let keeper = Keeper {
            writer,
            reader,
            index: index_kept,
            changes: changes.clone(),
            completed,
            unreadable: unreadable.clone(),
            restart: restart.clone(),
        };
        (Self { store, index, changes, complete, unreadable, restart }, keeper.keep_current(api))
    }

    /// The objects, for code that needs the store itself.
    pub fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// Gives up the present watch, whose connection may be dead without a word, and begins with a list again.
    pub fn restart(&self) {
        self.restart.notify_one();
    }

    /// What is there now, as one change, and every change from now on; the store has it already.
    pub fn changes(&self) -> impl Stream<Item = Change<K>> + Send + 'static {
        let receiver = self.changes.subscribe();
        let later = stream::unfold(receiver, |mut receiver| async move {
            match receiver.recv().await {
                Ok(change) => Some((change, receiver)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((Change::Many, receiver)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        });
        stream::once(async { Change::Many }).chain(later)
    }

    /// Waits for the first complete view.
    ///
    /// # Errors
    /// When the watch ended before.
    pub async fn ready(&self) -> Result<(), String> {
        // Not the store's own `wait_until_ready`, which wakes up only one of several that wait.
        let complete = self.complete.clone().wait_for(|complete| *complete).await.map(drop);
        complete.map_err(|_| format!("the watch of {} ended", K::kind(&())))
    }

    /// Whether there was a complete view.
    pub fn is_ready(&self) -> bool {
        *self.complete.borrow()
    }

    /// Whether nothing is missing: there was a complete view, and no object was ever left out as unreadable. What is
    /// not in such a view is not there at all.
    pub fn is_whole(&self) -> bool {
        self.is_ready() && !self.unreadable.load(Ordering::Relaxed)
    }

    /// The objects of one namespace, by name.
    pub fn list(&self, namespace: &str) -> Vec<Arc<K>> {
        self.picked(|object| object.meta().namespace.as_deref() == Some(namespace))
    }

    /// The objects of one namespace that satisfy `pick`, by name.
    pub fn find(&self, namespace: &str, pick: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.picked(|object| object.meta().namespace.as_deref() == Some(namespace) && pick(object))
    }

    /// Every object, by namespace and name.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.picked(|_| true)
    }

    /// The objects of one namespace that have a word, by name.
    pub fn having(&self, namespace: &str, word: &str) -> Vec<Arc<K>> {
        let found = self.index.having(namespace, word);
        sorted(found.iter().filter_map(|object| self.store.get(object)).collect())
    }

    fn picked(&self, pick: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        sorted(self.store.state_filter(pick))
    }
}

fn sorted<K: Kind>(mut objects: Vec<Arc<K>>) -> Vec<Arc<K>> {
    objects.sort_by(|a, b| (&a.meta().namespace, &a.meta().name).cmp(&(&b.meta().namespace, &b.meta().name)));
    objects
}

/// Keeps a store current and tells of it.
struct Keeper<K: Kind> {
    writer: Writer<K>,
    reader: Store<K>,
    index: Index<K>,
    changes: broadcast::Sender<Change<K>>,
    completed: watch::Sender<bool>,
    unreadable: Arc<AtomicBool>,
    restart: Arc<Notify>,
}

impl<K: Kind> Keeper<K> {
    async fn keep_current(mut self, api: Api<DeserializeGuard<K>>) -> Result<(), String>
    where
        DeserializeGuard<K>: Kind,
    {
        let start = || {
            let config = watcher::Config::default().timeout(WATCH_SECONDS);
            watcher::watcher(api.clone(), config).backoff(Reconnect::default()).boxed()
        };
        let (mut events, restart) = (start(), self.restart.clone());
        loop {
            let event = tokio::select! {
                event = events.next() => event.ok_or("the watch ended")?,
                () = restart.notified() => {
                    events = start();
                    continue;
                }
            };
            match event {
                Ok(event) => self.take(event),
                Err(error) => {
                    warn!(kind = %K::kind(&()), %error, "the watch broke and is started again{}", advice(&error));
                }
            }
        }
    }

    fn take(&mut self, event: Event<DeserializeGuard<K>>) {
        let Some(event) = readable(event) else {
            self.unreadable.store(true, Ordering::Relaxed);
            return;
        };
        let key = match &event {
            Event::Apply(object) | Event::Delete(object) => Some(ObjectRef::from_obj(object)),
            Event::Init | Event::InitApply(_) | Event::InitDone => None,
        };
        let before = key.as_ref().and_then(|key| self.reader.get(key));
        self.writer.apply_watcher_event(&event);
        let change = match (event, key) {
            (_, Some(key)) => {
                let after = self.reader.get(&key);
                self.index.replace(before.as_deref(), after.as_deref());
                Change::One(Changed { before, after })
            }
            (Event::InitDone, None) => {
                self.index.replace_all(&self.reader.state());
                self.completed.send_replace(true);
                Change::Many
            }
            (_, None) => return,
        };
        // Nobody listens yet, or any more: the store has it all the same.
        let _ = self.changes.send(change);
    }
}

/// What to do about the faults that don't go away by themselves.
pub(super) fn advice(error: &watcher::Error) -> &'static str {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status,
        _ => return "",
    };
    match status.code {
        404 => ": the kind is not installed; run `drover crds | kubectl apply --server-side -f -`",
        401 | 403 => ": this account may not read it; see the chart's roles",
        _ => "",
    }
}

/// The event, unless its object can't be read: one bad object must not stop the others.
pub(super) fn readable<K: Kind>(event: Event<DeserializeGuard<K>>) -> Option<Event<K>> {
    let object = |guard: DeserializeGuard<K>| match guard.0 {
        Ok(mut object) => {
            object.meta_mut().managed_fields = None;
            Some(object)
        }
        Err(invalid) => {
            let name = invalid.metadata.name.as_deref().unwrap_or_default();
            error!(kind = %K::kind(&()), name, error = %invalid.error, "this object can't be read and is left alone");
            None
        }
    };
    Some(match event {
        Event::Apply(guard) => Event::Apply(object(guard)?),
        Event::Delete(guard) => Event::Delete(object(guard)?),
        Event::InitApply(guard) => Event::InitApply(object(guard)?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}

/// Waits between attempts to watch: short, because rollbacks must arrive soon after an outage.
pub(super) struct Reconnect(Duration);

impl Default for Reconnect {
    fn default() -> Self {
        Self(FIRST_RETRY)
    }
}

impl Iterator for Reconnect {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.0;
        self.0 = (wait * 2).min(LAST_RETRY);
        Some(wait)
    }
}

impl Backoff for Reconnect {
    fn reset(&mut self) {
        self.0 = FIRST_RETRY;
    }
}
