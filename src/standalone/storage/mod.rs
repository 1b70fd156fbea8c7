//! The objects: all of them in memory, every change in SQLite before anybody sees it. One writer takes what waits in
//! one transaction. The revision is one number that grows with each change and never goes back.

mod body;
mod disk;
mod writer;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Bound,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

pub use body::{About, Body, Labels};
pub use disk::Durability;
pub use writer::Writer;

use body::{Draft, Pool};
use disk::Disk;
use writer::Request;

/// Writes that may wait before more have to.
const WAITING: usize = 4_096;

/// One object as it was stored.
#[derive(Debug)]
pub struct Entry {
    /// `PLURAL.GROUP` of its kind.
    pub resource: Arc<str>,
    /// `NAMESPACE/NAME`, or `NAME` where there are no namespaces.
    pub path: String,
    /// The change that it comes from.
    pub revision: u64,
    /// The JSON, `resourceVersion` included.
    pub body: Body,
    /// What is known of it without reading that; states of an object that agree in it share it.
    pub about: Arc<About>,
    /// Seconds since 1970.
    pub written: i64,
}

impl Entry {
    /// Keeps once what did not change.
    fn following(mut self, before: Option<&Arc<Self>>) -> Self {
        if let Some(before) = before.filter(|before| before.about == self.about) {
            self.about = before.about.clone();
        }
        self
    }

    /// The object.
    pub fn value(&self) -> Value {
        // It was written by this program from a value.
        serde_json::from_slice(&self.body.to_vec()).unwrap_or_default()
    }

    /// The namespace, if its kind has them.
    pub fn namespace(&self) -> Option<&str> {
        self.path.split_once('/').map(|(namespace, _)| namespace)
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// One change.
#[derive(Clone, Debug)]
pub struct Change {
    /// The object after it; for a deletion its last state, with the deletion's revision.
    pub entry: Arc<Entry>,
    /// Whether it is gone.
    pub deleted: bool,
    /// The object before, if it is still known.
    pub before: Option<Arc<Entry>>,
}

/// What a write expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No object.
    Absent,
    /// The object as of this revision.
    Revision(u64),
}

/// A change that somebody asks for.
#[derive(Debug)]
pub struct Write {
    /// `PLURAL.GROUP`.
    pub resource: Arc<str>,
    /// `NAMESPACE/NAME` or `NAME`.
    pub path: String,
    /// What must be there.
    pub expected: Expected,
    /// The object.
    pub object: Value,
    /// Whether the object goes away, in this last state.
    pub delete: bool,
}

/// Why a write was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Something else is there than was expected.
    Unexpected,
    /// The disk does not take it.
    Storage(String),
}

#[derive(Default)]
struct State {
    resources: HashMap<Arc<str>, BTreeMap<String, Arc<Entry>>>,
    history: VecDeque<Change>,
    revision: u64,
    /// Changes up to this one are forgotten.
    forgotten: u64,
}

impl State {
    fn get(&self, resource: &str, path: &str) -> Option<&Arc<Entry>> {
        self.resources.get(resource)?.get(path)
    }

    /// Notes how an object is now; returns how it was.
    fn put(&mut self, entry: &Arc<Entry>, deleted: bool) -> Option<Arc<Entry>> {
        let objects = self.resources.entry(entry.resource.clone()).or_default();
        if deleted { objects.remove(&entry.path) } else { objects.insert(entry.path.clone(), entry.clone()) }
    }

    /// The objects whose path begins with `prefix`, from the first after `after` on.
    fn under<'a>(&'a self, resource: &str, prefix: &'a str, after: &'a str) -> impl Iterator<Item = &'a Arc<Entry>> {
        let from = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        let objects = self.resources.get(resource).into_iter();
        let objects = objects.flat_map(move |objects| objects.range::<str, _>((from, Bound::Unbounded)));
        objects.take_while(move |(path, _)| path.starts_with(prefix)).map(|(_, entry)| entry)
    }
}

/// The objects; cheap to clone.
#[derive(Clone)]
pub struct Store {
    state: Arc<RwLock<State>>,
    pool: Pool,
    writes: mpsc::Sender<Request>,
    revisions: watch::Receiver<u64>,
}

/// Some objects, all as of one revision.
pub struct Listing {
    /// The objects, by path.
    pub entries: Vec<Arc<Entry>>,
    /// The revision.
    pub revision: u64,
}

impl Store {
    /// Reads the file, or makes it. The second value is the writer: nothing is written unless it runs.
    ///
    /// # Errors
    /// When the file can't be used: what and why.
    pub async fn open(file: &Path, durability: Durability) -> Result<(Self, Writer), String> {
        let say = |error: sqlx::Error| format!("{}: {error}", file.display());
        let pool = Pool::default();
        let (disk, state) = Disk::open(file, durability, &pool).await.map_err(say)?;
        let (writes, requests) = mpsc::channel(WAITING);
        let (announce, revisions) = watch::channel(state.revision);
        let state = Arc::new(RwLock::new(state));
        let writer = Writer { disk, state: state.clone(), requests, announce };
        Ok((Self { state, pool, writes, revisions }, writer))
    }

    /// One object.
    pub fn get(&self, resource: &str, path: &str) -> Option<Arc<Entry>> {
        self.read(|state| state.get(resource, path).cloned())
    }

    /// The objects whose path begins with `prefix`, from the first after `after` on.
    pub fn list(&self, resource: &str, prefix: &str, after: &str) -> Listing {
        self.read(|state| {
            let entries = state.under(resource, prefix, after).cloned().collect();
            Listing { entries, revision: state.revision }
        })
    }

    /// As `list`, but as it was at an earlier revision; nothing when that is forgotten.
    pub fn list_at(&self, resource: &str, prefix: &str, after: &str, revision: u64) -> Option<Listing> {
        self.read(|state| {
            if revision < state.forgotten || revision > state.revision {
                return None;
            }
            let newer = state.history.iter().rev().take_while(|change| change.entry.revision > revision);
            let concerned = newer.filter(|change| {
                let Entry { resource: changed, path, .. } = &*change.entry;
                **changed == *resource && path.starts_with(prefix) && path.as_str() > after
            });
            // The oldest of these changes comes last and counts.
            let before: BTreeMap<&str, _> =
                concerned.map(|change| (change.entry.path.as_str(), change.before.clone())).collect();
            let now = state.under(resource, prefix, after).filter(|entry| !before.contains_key(entry.path.as_str()));
            let mut entries: Vec<_> = now.cloned().collect();
            if !before.is_empty() {
                entries.extend(before.into_values().flatten());
                entries.sort_by(|a, b| a.path.cmp(&b.path));
            }
            Some(Listing { entries, revision })
        })
    }

    /// Every object that one of these owns.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<Entry>> {
        self.all(|entry| entry.about.owners.iter().any(|owner| **owner == *uid))
    }

    /// Every object of a namespace.
    pub fn within(&self, namespace: &str) -> Vec<Arc<Entry>> {
        self.all(|entry| entry.namespace() == Some(namespace))
    }

    /// Whether an object with this uid is there.
    pub fn has_uid(&self, uid: &str) -> bool {
        self.read(|state| state.resources.values().flat_map(BTreeMap::values).any(|entry| *entry.about.uid == *uid))
    }

    /// Every object that `pick` picks.
    pub fn all(&self, pick: impl Fn(&Entry) -> bool) -> Vec<Arc<Entry>> {
        let entries = |state: &State| {
            state.resources.values().flat_map(BTreeMap::values).filter(|entry| pick(entry)).cloned().collect()
        };
        self.read(entries)
    }

    /// The newest revision.
    pub fn revision(&self) -> u64 {
        self.read(|state| state.revision)
    }

    /// At most `limit` changes after a revision and the revision that they reach to; nothing when some are forgotten.
    pub fn changes_after(&self, revision: u64, limit: usize) -> Option<(Vec<Change>, u64)> {
        self.read(|state| {
            if revision < state.forgotten {
                return None;
            }
            let from = state.history.partition_point(|change| change.entry.revision <= revision);
            let changes: Vec<_> = state.history.range(from..).take(limit).cloned().collect();
            let reached = changes.last().map_or(state.revision.max(revision), |change| change.entry.revision);
            Some((changes, reached))
        })
    }

    /// The newest revision, announced after its change can be read.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.revisions.clone()
    }

    /// Makes a change. When this returns it is on disk and every reader sees it.
    ///
    /// # Errors
    /// When something else is there than expected, or it can't be stored.
    pub async fn commit(&self, write: Write) -> Result<Arc<Entry>, Refused> {
        let ended = || Refused::Storage("the server is ending".into());
        let Write { resource, path, expected, object, delete } = write;
        let draft = Draft::new(object, &self.pool).map_err(|error| Refused::Storage(error.to_string()))?;
        let (answer, outcome) = oneshot::channel();
        let request = Request { resource, path, expected, delete, draft, answer };
        self.writes.send(request).await.map_err(|_| ended())?;
        outcome.await.unwrap_or_else(|_| Err(ended()))
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}
