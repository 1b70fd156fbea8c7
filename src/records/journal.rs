//! Records that are kept for sure but aren't in the database yet: files of one JSON object a line.
//!
//! A record is one `write` to the end of the newest file. The kernel puts writers in order, so nobody waits for a lock,
//! and what is written outlives the process. A file is taken off the end as a whole once no writer has it any more.

use std::{
    collections::VecDeque,
    fs::{self, File, TryLockError},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::{Sync, down};
use crate::{ports::RecordsError, supervisor::blocking};

const LOCK: &str = "runs.lock";
const PREFIX: &str = "runs.journal-";
/// How many bytes may wait for the database: when it takes nothing, this is reached, and then nothing more is promised.
const MOST_WAITING: u64 = 64 << 20;
/// What must fit before a disk that was full counts as well again: room for some records, not for one byte.
const TRIAL: usize = 64 << 10;
const WRITER_PAUSE: Duration = Duration::from_millis(1);

/// The journal of one folder.
pub struct Journal {
    folder: PathBuf,
    sync: Sync,
    /// Missing while no file could be begun.
    newest: ArcSwapOption<Volume>,
    number: AtomicU64,
    /// The files before it, which nobody writes to any more.
    closed: Mutex<VecDeque<Closed>>,
    /// Bytes that the database does not have.
    waiting: AtomicU64,
    /// Why the last write failed.
    fault: ArcSwapOption<String>,
    /// Why the database took nothing the last time.
    pub database_fault: ArcSwapOption<String>,
    /// Told when something begins to wait for the database, and when a write failed.
    pub filled: Notify,
    /// Held as long as the folder is used.
    _lock: File,
}

/// A file that nobody writes to any more.
#[derive(Clone)]
struct Closed {
    path: PathBuf,
    /// What it counts in `waiting`.
    length: u64,
}

/// One file.
struct Volume {
    path: PathBuf,
    file: File,
    /// Bytes whose write has ended.
    written: AtomicU64,
    /// How many of them are surely on the disk.
    synced: AsyncMutex<u64>,
}

impl Journal {
    /// Takes the folder for this process. What an earlier one left waits to be taken off.
    ///
    /// # Errors
    /// When the folder can't be used, or another process uses it.
    pub fn open(folder: &Path, sync: Sync) -> Result<Self, String> {
        let fault = |error: io::Error| format!("{}: {error}", folder.display());
        fs::create_dir_all(folder).map_err(fault)?;
        let lock = File::options().create(true).append(true).mode(0o600).open(folder.join(LOCK)).map_err(fault)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                format!("{}: another process keeps its run records there; give each gateway a folder", folder.display())
            }
            TryLockError::Error(error) => fault(error),
        })?;
        let left = files(folder).map_err(fault)?;
        let number = left.last().map_or(0, |(number, _)| number + 1);
        let closed = left.into_iter().map(|(_, path)| Ok(Closed { length: path.metadata()?.len(), path }));
        let closed: VecDeque<_> = closed.collect::<io::Result<_>>().map_err(fault)?;
        let waiting = closed.iter().map(|closed| closed.length).sum();
        let journal = Self {
            folder: folder.into(),
            sync,
            newest: ArcSwapOption::empty(),
            number: AtomicU64::new(number),
            closed: Mutex::new(closed),
            waiting: AtomicU64::new(waiting),
            fault: ArcSwapOption::empty(),
            database_fault: ArcSwapOption::empty(),
            filled: Notify::new(),
            _lock: lock,
        };
        // A full disk is no reason not to start.
        if let Err(error) = journal.begin_volume() {
            journal.fail(&error);
        }
        Ok(journal)
    }

    /// Whether the next write will probably do.
    pub fn ready(&self) -> Result<(), RecordsError> {
        if let Some(fault) = &*self.fault.load() {
            return Err(RecordsError::Down(fault.to_string()));
        }
        match (&*self.database_fault.load(), self.waiting()) {
            (_, waiting) if waiting < MOST_WAITING => Ok(()),
            (Some(fault), _) => Err(RecordsError::Down(fault.to_string())),
            (None, _) => Err(RecordsError::Overloaded),
        }
    }

    /// Bytes that the database does not have.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Adds records: each a line break, then JSON without any. (A write that a full disk cuts short leaves a beginning
    /// without its end; what follows begins a line of its own.) When this returns, they outlive this process;
    /// when [`Written::settled`] ends, also whatever `sync` asks for.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn append(&self, records: &[u8]) -> Result<Written, RecordsError> {
        let outcome = self.write(records);
        match &outcome {
            Ok(_) if self.fault.load().is_some() => self.fault.store(None),
            Ok(_) => {}
            Err(error) => self.fail(error),
        }
        outcome.map_err(|error| self.say(&error))
    }

    fn write(&self, records: &[u8]) -> io::Result<Written> {
        let volume = self.newest.load_full().ok_or_else(|| io::Error::other("no journal file can be made"))?;
        if (&volume.file).write(records)? != records.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let length = records.len() as u64;
        let at = volume.written.fetch_add(length, Ordering::AcqRel) + length;
        if self.waiting.fetch_add(length, Ordering::AcqRel) == 0 {
            self.filled.notify_one();
        }
        let volume = (self.sync == Sync::Full).then_some(volume);
        Ok(Written { volume, at })
    }

    /// Whether the last write failed.
    pub fn is_faulty(&self) -> bool {
        self.fault.load().is_some()
    }

    /// Tries whether the disk takes records again. Not while `turn_over` runs.
    pub fn try_again(&self) {
        if self.newest.load().is_none() && self.begin_volume().is_err() {
            return;
        }
        if self.append(&[b'\n'; TRIAL]).is_ok() {
            tracing::info!(folder = %self.folder.display(), "run records can be stored again");
        }
    }

    /// Begins a new file if there is something in the newest one, and waits until nobody writes to that.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn turn_over(self: &Arc<Self>) -> Result<(), RecordsError> {
        let filled = self.newest.load_full().filter(|volume| volume.written.load(Ordering::Acquire) > 0);
        let Some(volume) = filled else { return Ok(()) };
        let journal = self.clone();
        blocking(move || journal.begin_volume()).await.map_err(|error| self.say(&error))?;
        // With full sync, those who wait for the disk count as writers.
        while Arc::strong_count(&volume) > 1 {
            tokio::time::sleep(WRITER_PAUSE).await;
        }
        let closed = Closed { path: volume.path.clone(), length: volume.written.load(Ordering::Acquire) };
        self.closed().push_back(closed);
        Ok(())
    }

    /// The oldest file that nobody writes to any more, if there is one.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn oldest(&self) -> Result<Option<File>, RecordsError> {
        let Some(path) = self.closed().front().map(|closed| closed.path.clone()) else { return Ok(None) };
        blocking(move || File::open(path)).await.map(Some).map_err(|error| self.say(&error))
    }

    /// Removes that file, as what is in it is kept elsewhere.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn remove_oldest(&self) -> Result<(), RecordsError> {
        let Some(Closed { path, length }) = self.closed().front().cloned() else { return Ok(()) };
        blocking(move || fs::remove_file(path)).await.map_err(|error| self.say(&error))?;
        self.closed().pop_front();
        self.waiting.fetch_sub(length, Ordering::AcqRel);
        Ok(())
    }

    fn closed(&self) -> MutexGuard<'_, VecDeque<Closed>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_volume(&self) -> io::Result<()> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{PREFIX}{number}"));
        let file = File::options().create_new(true).append(true).mode(0o600).open(&path)?;
        if self.sync == Sync::Full {
            File::open(&self.folder)?.sync_all()?;
        }
        let volume = Volume { path, file, written: AtomicU64::new(0), synced: AsyncMutex::new(0) };
        self.newest.store(Some(Arc::new(volume)));
        Ok(())
    }

    fn fail(&self, error: &io::Error) {
        if self.fault.load().is_none() {
            tracing::error!(folder = %self.folder.display(), %error, "run records can't be stored");
        }
        self.fault.store(Some(Arc::new(self.why(error))));
        self.filled.notify_one();
    }

    fn why(&self, error: &io::Error) -> String {
        format!("{}: {error}", self.folder.display())
    }

    fn say(&self, error: &io::Error) -> RecordsError {
        down(self.why(error))
    }
}

/// Records that were written.
#[derive(Clone)]
pub struct Written {
    /// Set where it must also be on the disk.
    volume: Option<Arc<Volume>>,
    at: u64,
}

impl Written {
    /// Waits until it is as sure as it shall be.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn settled(self) -> Result<(), RecordsError> {
        match self.volume {
            Some(volume) => {
                volume.sync(self.at).await.map_err(|error| down(format!("{}: {error}", volume.path.display())))
            }
            None => Ok(()),
        }
    }
}

impl Volume {
    /// Ends when the first `at` bytes are on the disk. One of those who wait asks for all that was written until then;
    /// the others find it done.
    async fn sync(self: &Arc<Self>, at: u64) -> io::Result<()> {
        let mut synced = self.synced.lock().await;
        if *synced >= at {
            return Ok(());
        }
        let written = self.written.load(Ordering::Acquire);
        let volume = self.clone();
        blocking(move || volume.file.sync_data()).await?;
        *synced = written;
        Ok(())
    }
}

/// The journal's files with their numbers, in the order in which they were begun.
fn files(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(number) = name.strip_prefix(PREFIX).and_then(|number| number.parse().ok()) {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}
