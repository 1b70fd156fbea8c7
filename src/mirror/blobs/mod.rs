//! Blobs by digest, on disk, within a size limit. Each byte is fetched from a registry once, however many ask.

mod blob;
mod fetch;
mod partial;
mod read;
mod room;

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use blob::Blob;
pub use partial::write_whole;
use partial::{Files, found};
use read::Buffers;
pub use read::Reader;

use super::{
    bandwidth::Bandwidth,
    locked,
    meters::Meters,
    refusal::Refusal,
    upstream::{Origin, Upstream},
};
use crate::{
    domain::{backoff, digest::Digest, pull::Fault, size::ByteSize},
    supervisor::{Jobs, blocking},
};

/// A blob that came damaged is left alone for so long at first, and twice as long each further time.
const DAMAGED_WAIT: Duration = Duration::from_secs(5);
const LONGEST_DAMAGED_WAIT: Duration = Duration::from_secs(300);
/// Uses within so long of the last one are not noted on disk.
const NOTE_USE_EVERY: Duration = Duration::from_secs(60);

/// Which blobs must stay.
type Pins = Box<dyn Fn() -> HashSet<Digest> + Send + Sync>;

/// Every blob of a mirror; cheap to clone.
#[derive(Clone)]
pub struct Blobs(Arc<Store>);

struct Store {
    dir: PathBuf,
    limit: u64,
    blobs: Mutex<HashMap<Digest, Arc<Blob>>>,
    /// Held by whoever adds or removes files.
    changing: tokio::sync::Mutex<()>,
    damaged: Mutex<HashMap<Digest, (u32, Instant)>>,
    pins: OnceLock<Pins>,
    upstream: Arc<Upstream>,
    bandwidth: Bandwidth,
    buffers: Buffers,
    jobs: Jobs,
    meters: Meters,
}

/// What there is of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// How many of them are there.
    pub bytes: u64,
    /// Whether all are, and verified.
    pub is_complete: bool,
    /// Whether somebody reads or fetches it.
    pub is_busy: bool,
    /// When it was last used.
    pub used: Timestamp,
}

/// The file with all of a blob's bytes, in the folder of the blobs.
pub fn blob_file(dir: &Path, digest: &Digest) -> PathBuf {
    Files::new(dir, digest).whole
}

impl Blobs {
    /// The blobs in `dir`, which hold at most `limit` bytes; 0: as many as fit on the disk.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn open(
        dir: &Path,
        limit: ByteSize,
        upstream: Arc<Upstream>,
        bandwidth: Bandwidth,
        jobs: Jobs,
        meters: Meters,
    ) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut blobs = HashMap::new();
        for digest in found(dir)? {
            match restore(dir, &digest) {
                Some(blob) => _ = blobs.insert(digest, Arc::new(blob)),
                None => Files::new(dir, &digest).forget()?,
            }
        }
        let store = Self(Arc::new(Store {
            dir: dir.into(),
            limit: if limit.0 == 0 { u64::MAX } else { limit.0 },
            blobs: Mutex::new(blobs),
            changing: tokio::sync::Mutex::default(),
            damaged: Mutex::default(),
            pins: OnceLock::new(),
            upstream,
            bandwidth,
            buffers: Buffers::default(),
            jobs,
            meters,
        }));
        store.0.measure();
        Ok(store)
    }

    /// Names, whenever room is needed, the blobs that must stay. Only the first call counts.
    pub fn pin(&self, pins: impl Fn() -> HashSet<Digest> + Send + Sync + 'static) {
        let _ = self.0.pins.set(Box::new(pins)); // as documented
    }

    /// A folder on the same disk, for files that [`Self::put`] is to take.
    pub fn staging(&self) -> PathBuf {
        self.0.dir.join("staging")
    }

    /// The most bytes that all blobs together may have.
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Whether all of a blob is there and verified; its size in bytes.
    pub fn complete(&self, digest: &Digest) -> Option<u64> {
        let blob = self.0.known(digest)?;
        blob.is_complete().then_some(blob.size)
    }

    /// How many bytes of a blob there are, and whether that is all, verified.
    pub fn progress(&self, digest: &Digest) -> Option<(u64, bool)> {
        self.0.known(digest).map(|blob| (blob.bytes() + blob.fetches() as u64, blob.is_complete()))
    }

    /// What is to be said of a blob that came damaged and is left alone for a moment.
    pub fn damage(&self, digest: &Digest) -> Option<Refusal> {
        self.0.damage(digest)
    }

    /// The file of a complete blob.
    pub fn path(&self, digest: &Digest) -> Option<PathBuf> {
        let blob = self.0.known(digest)?;
        blob.is_complete().then(|| blob.files.whole.clone())
    }

    /// All of them, in no order.
    pub fn list(&self) -> Vec<BlobInfo> {
        let blobs: Vec<Arc<Blob>> = locked(&self.0.blobs).values().cloned().collect();
        let info = |blob: Arc<Blob>| BlobInfo {
            digest: blob.digest.clone(),
            size: blob.size,
            bytes: blob.bytes(),
            is_complete: blob.is_complete(),
            is_busy: blob.is_busy(),
            used: blob.used(),
        };
        blobs.into_iter().map(info).collect()
    }

    /// Takes a file from [`Self::staging`], whose bytes the caller verified, as a blob.
    ///
    /// # Errors
    /// [`Fault::MirrorFull`], or what the file system says.
    pub async fn put(&self, file: PathBuf, digest: &Digest, size: u64) -> Result<(), Refusal> {
        let store = self.0.clone();
        let _changing = store.changing.lock().await;
        if self.complete(digest).is_some() {
            return store.work(move || fs::remove_file(file)).await;
        }
        let replaced = locked(&store.blobs).remove(digest);
        let result = store.take(file, digest, size).await;
        if let (Ok(()), Some(replaced)) = (&result, replaced) {
            replaced.gone(Refusal::new(Fault::Other, "the blob was brought in another way"));
        }
        store.measure();
        result
    }

    /// Removes a blob.
    ///
    /// # Errors
    /// When it is being read or fetched, or as the file system says.
    pub async fn remove(&self, digest: &Digest) -> Result<u64, Refusal> {
        let _changing = self.0.changing.lock().await;
        let Some(blob) = self.0.known(digest) else { return Ok(0) };
        if !blob.retire(not_here(digest)) {
            return Err(Refusal::new(Fault::Other, format!("blob {digest} is being read or fetched: try again later")));
        }
        self.0.discard(&blob, not_here(digest)).await
    }

    /// Drops a blob whose bytes turned out to be damaged, whoever reads it.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn condemn(&self, digest: &Digest) -> Result<(), Refusal> {
        self.0.meters.corrupt();
        let _changing = self.0.changing.lock().await;
        let Some(blob) = self.0.known(digest) else { return Ok(()) };
        let message = format!("blob {digest} is damaged on the mirror's disk and was dropped");
        self.0.discard(&blob, Refusal::new(Fault::DigestMismatch, message)).await.map(drop)
    }

    /// A reader of some bytes of a blob; what is missing of them is fetched from `origin`, if there is one.
    ///
    /// # Errors
    /// Why there can be none.
    pub async fn reader(
        &self,
        digest: &Digest,
        size: u64,
        range: Range<u64>,
        origin: Option<Arc<Origin>>,
    ) -> Result<Reader, Refusal> {
        loop {
            let blob = self.0.blob(digest, size).await?;
            let Some(reading) = blob.enter(range.clone()) else { continue };
            let file = match blob.partial_file() {
                Some(file) => Some(file),
                None => self.0.open_whole(&blob).await?,
            };
            if let Some(file) = file {
                return Ok(Reader::new(self.clone(), reading, origin, file, range));
            }
        }
    }

    fn fetch(&self, blob: &Arc<Blob>, id: u64, origin: Arc<Origin>) {
        self.0.meters.fetch_started();
        self.0.jobs.start(CancellationToken::new(), fetch::run(self.0.clone(), blob.clone(), id, origin));
        self.keep(blob);
    }

    fn keep(&self, blob: &Arc<Blob>) {
        if blob.partial_file().is_some() && blob.needs_keeper() {
            self.0.jobs.start(CancellationToken::new(), fetch::keep(self.0.clone(), blob.clone()));
        }
    }

    fn buffers(&self) -> &Buffers {
        &self.0.buffers
    }

    fn meters(&self) -> &Meters {
        &self.0.meters
    }
}

impl Store {
    fn known(&self, digest: &Digest) -> Option<Arc<Blob>> {
        locked(&self.blobs).get(digest).cloned()
    }

    /// The blob, which is there from now on with a size of `size`.
    async fn blob(&self, digest: &Digest, size: u64) -> Result<Arc<Blob>, Refusal> {
        if let Some(blob) = self.known(digest).filter(|blob| blob.size == size) {
            return Ok(blob);
        }
        self.damage(digest).map_or(Ok(()), Err)?;
        let _changing = self.changing.lock().await;
        if let Some(blob) = self.known(digest) {
            match blob.size == size {
                true => return Ok(blob),
                false if blob.is_complete() || blob.is_busy() => return Err(other_size(&blob, size)),
                false => _ = self.discard(&blob, other_size(&blob, size)).await?,
            }
        }
        self.make_room(size).await?;
        let files = Files::new(&self.dir, digest);
        let creating = files.clone();
        let file = self.work(move || creating.create()).await?;
        let content = Some((file, Default::default()));
        let blob = Arc::new(Blob::new(digest.clone(), size, files, content, Timestamp::now()));
        locked(&self.blobs).insert(digest.clone(), blob.clone());
        self.measure();
        Ok(blob)
    }

    /// The file of a complete blob; none when somebody removed it, and the blob is forgotten, too.
    async fn open_whole(&self, blob: &Arc<Blob>) -> Result<Option<Arc<File>>, Refusal> {
        let path = blob.files.whole.clone();
        let opened = blocking(move || {
            let file = File::open(path)?;
            note_use(&file)?;
            Ok(Some(Arc::new(file)))
        });
        match opened.await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.forget(blob, not_here(&blob.digest)).await;
                Ok(None)
            }
            opened => {
                opened.map_err(|error| Refusal::new(Fault::Other, format!("{}: {error}", blob.files.whole.display())))
            }
        }
    }

    /// Makes a verified file a blob; its place in the list must be free.
    async fn take(&self, file: PathBuf, digest: &Digest, size: u64) -> Result<(), Refusal> {
        self.make_room(size).await?;
        let files = Files::new(&self.dir, digest);
        let placing = files.clone();
        let place = move || {
            placing.forget()?;
            let opened = File::open(&file)?;
            opened.sync_data()?;
            fs::rename(&file, &placing.part)?;
            placing.finish(&opened)
        };
        self.work(place).await?;
        let blob = Arc::new(Blob::new(digest.clone(), size, files, None, Timestamp::now()));
        locked(&self.blobs).insert(digest.clone(), blob);
        Ok(())
    }

    /// File work whose failure is told.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        blocking(work).await.map_err(|error| match fetch::is_full(&error) {
            true => disk_full(&self.dir),
            false => Refusal::new(Fault::Other, format!("{}: {error}", self.dir.display())),
        })
    }

    fn mark_damaged(&self, digest: &Digest) {
        let mut damaged = locked(&self.damaged);
        let count = damaged.get(digest).map_or(1, |(count, _)| count + 1);
        let wait = backoff::delay(count, DAMAGED_WAIT, LONGEST_DAMAGED_WAIT, 1.0);
        damaged.retain(|_, (_, until)| until.elapsed() < LONGEST_DAMAGED_WAIT);
        damaged.insert(digest.clone(), (count, Instant::now() + wait));
    }

    fn damage(&self, digest: &Digest) -> Option<Refusal> {
        let until = locked(&self.damaged).get(digest).map(|(_, until)| *until)?;
        let left = until.checked_duration_since(Instant::now())?;
        let message = format!(
            "digest mismatch: the registry sent damaged bytes for blob {digest}: it is asked again in a moment"
        );
        Some(Refusal { fault: Fault::DigestMismatch, message, retry_after: Some(left) })
    }
}

/// What is on disk of a blob, if it is good for anything.
fn restore(dir: &Path, digest: &Digest) -> Option<Blob> {
    let files = Files::new(dir, digest);
    if let Ok(metadata) = fs::metadata(&files.whole) {
        files.forget().ok()?;
        let used = metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok()).unwrap_or_default();
        return Some(Blob::new(digest.clone(), metadata.len(), files, None, used));
    }
    let (file, size, have) = files.resume()?;
    Some(Blob::new(digest.clone(), size, files, Some((file, have)), Timestamp::now()))
}

/// Has the file remember when it was used, for the order of eviction after a restart.
fn note_use(file: &File) -> io::Result<()> {
    let noted = Timestamp::try_from(file.metadata()?.modified()?).unwrap_or_default();
    let now = Timestamp::now();
    match now.duration_since(noted).unsigned_abs() > NOTE_USE_EVERY {
        true => file.set_modified(now.into()),
        false => Ok(()),
    }
}

fn not_here(digest: &Digest) -> Refusal {
    Refusal::new(Fault::NoSuchModel, format!("blob {digest} is not on the mirror any more: pull the model again"))
}

fn other_size(blob: &Blob, size: u64) -> Refusal {
    let message = format!("blob {} has {} bytes, not {size} as its manifest says", blob.digest, blob.size);
    Refusal::new(Fault::DigestMismatch, message)
}

fn disk_full(dir: &Path) -> Refusal {
    let message = format!(
        "the mirror is full: the disk of {} has no room left, and all else on it is in use: give it a bigger disk",
        dir.display()
    );
    Refusal::new(Fault::MirrorFull, message)
}
