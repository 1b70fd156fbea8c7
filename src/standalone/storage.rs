//! The objects: all of them in memory, every change in SQLite before anybody sees it. One writer takes what waits in
//! one transaction. The revision is one number that grows with each change and never goes back.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    path::Path,
    str::FromStr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::body::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::{
    ConnectOptions, Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous},
};
use tokio::sync::{mpsc, oneshot, watch};

/// How many changes are remembered for watchers that come back.
const REMEMBERED: usize = 10_000;
/// How many more may gather before the oldest are forgotten.
const SLACK: usize = 2_000;
const BATCH: usize = 256;
const WAITING: usize = 4_096;
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS changes (
        revision INTEGER PRIMARY KEY AUTOINCREMENT,
        resource TEXT NOT NULL, path TEXT NOT NULL, deleted INTEGER NOT NULL, written INTEGER NOT NULL, body BLOB NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS objects (
        resource TEXT NOT NULL, path TEXT NOT NULL, revision INTEGER NOT NULL, PRIMARY KEY (resource, path)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS objects_by_revision ON objects (revision);
    CREATE TABLE IF NOT EXISTS compaction (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL) STRICT;
    INSERT OR IGNORE INTO compaction VALUES (1, 0);
    CREATE TRIGGER IF NOT EXISTS stored AFTER INSERT ON changes WHEN NOT NEW.deleted BEGIN
        INSERT OR REPLACE INTO objects VALUES (NEW.resource, NEW.path, NEW.revision);
    END;
    CREATE TRIGGER IF NOT EXISTS removed AFTER INSERT ON changes WHEN NEW.deleted BEGIN
        DELETE FROM objects WHERE resource = NEW.resource AND path = NEW.path;
    END;";

/// How long an acknowledged write lasts. In both cases it outlives the process, however that ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Beyond a loss of power: the disk has it before it is acknowledged.
    #[default]
    Full,
    /// The last few writes may be gone after a loss of power; what is left is whole.
    Normal,
}

impl FromStr for Durability {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "full" => Ok(Self::Full),
            "normal" => Ok(Self::Normal),
            _ => Err(()),
        }
    }
}

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
    pub body: Bytes,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.uid`.
    pub uid: String,
    /// The uids of its owners.
    pub owners: Vec<String>,
    /// Seconds since 1970.
    pub written: i64,
}

impl Entry {
    fn new(resource: Arc<str>, path: String, revision: u64, written: i64, body: Bytes, value: &Value) -> Self {
        let metadata = &value["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let labels =
            metadata["labels"].as_object().into_iter().flatten().map(|(key, value)| (key.clone(), text(value)));
        let owners = metadata["ownerReferences"].as_array().into_iter().flatten().map(|owner| text(&owner["uid"]));
        let (labels, owners) = (labels.collect(), owners.collect());
        Self { resource, path, revision, body, labels, uid: text(&metadata["uid"]), owners, written }
    }

    /// The object.
    pub fn value(&self) -> Value {
        // It was written by this program from a value.
        serde_json::from_slice(&self.body).unwrap_or_default()
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

struct Request {
    write: Write,
    answer: oneshot::Sender<Result<Arc<Entry>, Refused>>,
}

#[derive(Default)]
struct State {
    resources: HashMap<Arc<str>, BTreeMap<String, Arc<Entry>>>,
    history: VecDeque<Change>,
    revision: u64,
    /// Changes up to this one are forgotten.
    forgotten: u64,
}

/// The objects; cheap to clone.
#[derive(Clone)]
pub struct Store {
    state: Arc<RwLock<State>>,
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
        let synchronous = match durability {
            Durability::Full => SqliteSynchronous::Full,
            Durability::Normal => SqliteSynchronous::Normal,
        };
        let options = SqliteConnectOptions::new().filename(file).create_if_missing(true).busy_timeout(BUSY_TIMEOUT);
        let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(synchronous);
        let options = options.disable_statement_logging();
        let mut connection = options.connect().await.map_err(say)?;
        sqlx::raw_sql(TABLES).execute(&mut connection).await.map_err(say)?;
        let state = load(&mut connection).await.map_err(say)?;
        let (writes, requests) = mpsc::channel(WAITING);
        let (announce, revisions) = watch::channel(state.revision);
        let state = Arc::new(RwLock::new(state));
        let writer = Writer { options, connection: Some(connection), state: state.clone(), requests, announce };
        Ok((Self { state, writes, revisions }, writer))
    }

    /// One object.
    pub fn get(&self, resource: &str, path: &str) -> Option<Arc<Entry>> {
        self.read(|state| state.resources.get(resource)?.get(path).cloned())
    }

    /// The objects whose path begins with `prefix`.
    pub fn list(&self, resource: &str, prefix: &str) -> Listing {
        self.read(|state| Listing { entries: under(state, resource, prefix), revision: state.revision })
    }

    /// As `list`, but as it was at an earlier revision; nothing when that is forgotten.
    pub fn list_at(&self, resource: &str, prefix: &str, revision: u64) -> Option<Listing> {
        self.read(|state| {
            if revision < state.forgotten || revision > state.revision {
                return None;
            }
            let now = under(state, resource, prefix).into_iter().map(|entry| (entry.path.clone(), entry));
            let mut entries: BTreeMap<_, _> = now.collect();
            let newer = state.history.iter().rev().take_while(|change| change.entry.revision > revision);
            let concerned =
                |change: &&Change| &*change.entry.resource == resource && change.entry.path.starts_with(prefix);
            for change in newer.filter(concerned) {
                match &change.before {
                    Some(before) => entries.insert(before.path.clone(), before.clone()),
                    None => entries.remove(&change.entry.path),
                };
            }
            Some(Listing { entries: entries.into_values().collect(), revision })
        })
    }

    /// Every object that one of these owns.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<Entry>> {
        self.all(|entry| entry.owners.iter().any(|owner| owner == uid))
    }

    /// Every object of a namespace.
    pub fn within(&self, namespace: &str) -> Vec<Arc<Entry>> {
        self.all(|entry| entry.namespace() == Some(namespace))
    }

    /// Whether an object with this uid is there.
    pub fn has_uid(&self, uid: &str) -> bool {
        self.read(|state| state.resources.values().flat_map(BTreeMap::values).any(|entry| entry.uid == uid))
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
        let (answer, outcome) = oneshot::channel();
        self.writes.send(Request { write, answer }).await.map_err(|_| ended())?;
        outcome.await.unwrap_or_else(|_| Err(ended()))
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn under(state: &State, resource: &str, prefix: &str) -> Vec<Arc<Entry>> {
    let Some(objects) = state.resources.get(resource) else { return Vec::new() };
    let from = objects.range(prefix.to_owned()..);
    from.take_while(|(path, _)| path.starts_with(prefix)).map(|(_, entry)| entry.clone()).collect()
}

/// Carries out the writes.
pub struct Writer {
    options: SqliteConnectOptions,
    /// None after a failure: the next write opens the file again.
    connection: Option<SqliteConnection>,
    state: Arc<RwLock<State>>,
    requests: mpsc::Receiver<Request>,
    announce: watch::Sender<u64>,
}

impl Writer {
    /// Runs until every `Store` is gone.
    pub async fn run(&mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.requests.recv_many(&mut batch, BATCH).await > 0 {
            self.carry_out(std::mem::take(&mut batch)).await;
        }
    }

    async fn carry_out(&mut self, batch: Vec<Request>) {
        let (changes, answers) = self.stage(batch);
        let (revision, forget) = self.read(|state| {
            let many = state.history.len() + changes.len() > REMEMBERED + SLACK;
            let first = state.history.iter().chain(&changes).nth_back(REMEMBERED);
            (state.revision, first.filter(|_| many).map(|change| change.entry.revision))
        });
        let stored = if changes.is_empty() { Ok(()) } else { self.store(&changes, forget).await };
        if stored.is_ok() {
            let reached = changes.last().map_or(revision, |change| change.entry.revision);
            self.show(changes, forget);
            self.announce.send_if_modified(|announced| std::mem::replace(announced, reached) != reached);
        }
        for (answer, outcome) in answers {
            let failed = |error: &sqlx::Error| Err(Refused::Storage(advice(error)));
            // Whoever asked may have gone.
            let _ = answer.send(stored.as_ref().map_or_else(failed, |()| outcome));
        }
    }

    /// Decides each write on what is there after the ones before it.
    #[expect(clippy::type_complexity, reason = "a pair of lists, taken apart at once")]
    fn stage(
        &self,
        batch: Vec<Request>,
    ) -> (Vec<Change>, Vec<(oneshot::Sender<Result<Arc<Entry>, Refused>>, Result<Arc<Entry>, Refused>)>) {
        let written = Timestamp::now().as_second();
        let mut staged: HashMap<(Arc<str>, String), Option<Arc<Entry>>> = HashMap::new();
        let (mut changes, mut answers) = (Vec::new(), Vec::new());
        let mut revision = self.read(|state| state.revision);
        for Request { write, answer } in batch {
            let key = (write.resource.clone(), write.path.clone());
            let stored = || self.read(|state| state.resources.get(&key.0)?.get(&key.1).cloned());
            let before = staged.get(&key).cloned().unwrap_or_else(stored);
            let fits = match write.expected {
                Expected::Absent => before.is_none() && !write.delete,
                Expected::Revision(expected) => before.as_ref().is_some_and(|entry| entry.revision == expected),
            };
            if !fits {
                answers.push((answer, Err(Refused::Unexpected)));
                continue;
            }
            revision += 1;
            let mut object = write.object;
            object["metadata"]["resourceVersion"] = json!(revision.to_string());
            let body = Bytes::from(object.to_string());
            let entry = Arc::new(Entry::new(write.resource, write.path, revision, written, body, &object));
            staged.insert(key, (!write.delete).then(|| entry.clone()));
            changes.push(Change { entry: entry.clone(), deleted: write.delete, before });
            answers.push((answer, Ok(entry)));
        }
        (changes, answers)
    }

    async fn store(&mut self, changes: &[Change], forget: Option<u64>) -> Result<(), sqlx::Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        match insert(&mut connection, changes, forget).await {
            Ok(()) => self.connection = Some(connection),
            Err(error) => {
                // A transaction that failed may still be open: what came later would be written inside of it, and gone with it.
                // Closing ends it; whether that succeeds makes no difference to what is known.
                let _ = connection.close().await;
                return Err(error);
            }
        }
        Ok(())
    }

    fn show(&self, changes: Vec<Change>, forget: Option<u64>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            state.revision = change.entry.revision;
            let objects = state.resources.entry(change.entry.resource.clone()).or_default();
            if change.deleted {
                objects.remove(&change.entry.path);
            } else {
                objects.insert(change.entry.path.clone(), change.entry.clone());
            }
            state.history.push_back(change);
        }
        if let Some(revision) = forget {
            state.forgotten = revision;
            let old = state.history.partition_point(|change| change.entry.revision <= revision);
            state.history.drain(..old);
        }
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn insert(connection: &mut SqliteConnection, changes: &[Change], forget: Option<u64>) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    for Change { entry, deleted, .. } in changes {
        sqlx::query("INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?)")
            .bind(entry.revision.cast_signed())
            .bind(&*entry.resource)
            .bind(&entry.path)
            .bind(deleted)
            .bind(entry.written)
            .bind(&entry.body[..])
            .execute(&mut *transaction)
            .await?;
    }
    if let Some(revision) = forget.map(u64::cast_signed) {
        let old = "DELETE FROM changes WHERE revision <= ? AND revision NOT IN (SELECT revision FROM objects)";
        sqlx::query(old).bind(revision).execute(&mut *transaction).await?;
        sqlx::query("UPDATE compaction SET revision = ?").bind(revision).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

async fn load(connection: &mut SqliteConnection) -> Result<State, sqlx::Error> {
    let forgotten: i64 = sqlx::query_scalar("SELECT revision FROM compaction").fetch_one(&mut *connection).await?;
    let newest = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'changes'), 0)";
    let revision: i64 = sqlx::query_scalar(newest).fetch_one(&mut *connection).await?;
    let mut state =
        State { revision: revision.cast_unsigned(), forgotten: forgotten.cast_unsigned(), ..State::default() };
    let rows = "SELECT revision, resource, path, deleted, written, body FROM changes ORDER BY revision";
    for row in sqlx::query(rows).fetch_all(connection).await? {
        let (entry, deleted) = read_row(&row)?;
        let (entry, forgotten) = (Arc::new(entry), state.forgotten);
        let objects = state.resources.entry(entry.resource.clone()).or_default();
        let before =
            if deleted { objects.remove(&entry.path) } else { objects.insert(entry.path.clone(), entry.clone()) };
        if entry.revision > forgotten {
            state.history.push_back(Change { entry, deleted, before });
        }
    }
    Ok(state)
}

/// Why a change was not stored, and what to do.
fn advice(error: &sqlx::Error) -> String {
    // https://sqlite.org/rescode.html
    const SHARED_MEMORY_SIZE: u32 = 4874;
    let code = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<u32>().ok());
    match (code, code.map(|code| code & 0xff)) {
        (Some(SHARED_MEMORY_SIZE), _) | (_, Some(13)) => "the disk is full: free some space on it".into(),
        (_, Some(5 | 6)) => "another program is writing to the file of the objects: end it".into(),
        (_, Some(19)) => "another program wrote to the file of the objects: end it, and start again".into(),
        (_, Some(10)) => format!("the disk fails: {error}"),
        _ => error.to_string(),
    }
}

fn read_row(row: &SqliteRow) -> Result<(Entry, bool), sqlx::Error> {
    let revision: i64 = row.try_get(0)?;
    let (resource, path): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    let body: Vec<u8> = row.try_get(5)?;
    let value = serde_json::from_slice(&body).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let entry = Entry::new(resource.into(), path, revision.cast_unsigned(), row.try_get(4)?, body.into(), &value);
    Ok((entry, row.try_get(3)?))
}
