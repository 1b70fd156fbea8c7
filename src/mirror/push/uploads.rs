//! Blobs on their way in. Each upload is a file that grows; it becomes a blob once its digest is right. One that nobody
//! touched for a day goes.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use axum::body::{Body, Bytes};
use futures::StreamExt;
use sha2::{Digest as _, Sha256};

use crate::{
    domain::{digest::Digest, pull::Fault},
    mirror::{Refusal, blobs::Blobs, locked, random},
    supervisor::blocking,
};

/// An upload that nobody touched for so long goes.
const UNTOUCHED_FOR: Duration = Duration::from_secs(24 * 3600);
/// So many bytes are written at once.
const CHUNK: usize = 1 << 20;
const ID_LENGTH: usize = 32;

/// All uploads under way.
pub struct Uploads {
    dir: PathBuf,
    open: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Upload>>>>,
    /// Blobs that came or are about to be named by a manifest, and when.
    held: Mutex<HashMap<Digest, Instant>>,
}

/// One of them, and the hash of what is there.
struct Upload {
    file: File,
    hash: Sha256,
    length: u64,
}

/// Why a part of an upload was not taken.
#[derive(Debug)]
pub enum Fail {
    /// There is no such upload, or no more.
    Unknown,
    /// The part doesn't follow what is there, which are so many bytes.
    Gap(u64),
    /// The digest is wrong; nothing was kept.
    WrongDigest(Digest),
    /// The connection broke; what came is kept.
    Broken,
    /// It can't be kept.
    Refused(Refusal),
}

impl Upload {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::options().read(true).write(true).open(path)?;
        let (mut hash, mut length) = (Sha256::new(), 0u64);
        let mut buffer = vec![0; CHUNK];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Self { file, hash, length }),
                count => {
                    hash.update(&buffer[..count]);
                    length += count as u64;
                }
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }
}

impl Uploads {
    /// The uploads whose files are in `dir`.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self { dir, open: Mutex::default(), held: Mutex::default() })
    }

    /// Begins one; its name.
    ///
    /// # Errors
    /// The file system's.
    pub async fn begin(&self) -> Result<String, Fail> {
        let id = random();
        let path = self.dir.join(&id);
        blocking(move || File::options().create_new(true).write(true).open(path))
            .await
            .map_err(|error| self.full(&error))?;
        Ok(id)
    }

    /// How many bytes of it are there.
    ///
    /// # Errors
    /// When there is no such upload.
    pub async fn length(&self, id: &str) -> Result<u64, Fail> {
        Ok(self.find(id).await?.lock().await.length)
    }

    /// Adds the bytes of a request, which begin at `start` or behind what is there; how many there are then.
    ///
    /// # Errors
    /// Why not all were taken.
    pub async fn write(&self, id: &str, start: Option<u64>, body: Body, limit: u64) -> Result<u64, Fail> {
        let upload = self.find(id).await?;
        let mut held = upload.clone().lock_owned().await;
        match start {
            Some(start) if start > held.length => return Err(Fail::Gap(held.length)),
            // A part that broke off is sent again from its start.
            Some(start) if start < held.length => held = self.cut(held, start).await?,
            _ => {}
        }
        let mut body = body.into_data_stream();
        let mut buffer = Vec::with_capacity(CHUNK);
        loop {
            let chunk: Option<Result<Bytes, _>> = body.next().await;
            let is_broken = matches!(chunk, Some(Err(_)));
            let is_last = chunk.is_none() || is_broken;
            if let Some(Ok(chunk)) = chunk {
                buffer.extend_from_slice(&chunk);
            }
            if held.length + buffer.len() as u64 > limit {
                let message = format!("the mirror is too small for this blob: mirror-cache-size is {limit}");
                return Err(Fail::Refused(Refusal::new(Fault::MirrorFull, message)));
            }
            if buffer.len() >= CHUNK || is_last {
                let full = std::mem::replace(&mut buffer, Vec::with_capacity(CHUNK));
                let write = blocking(move || {
                    held.write(&full)?;
                    Ok(held)
                });
                held = write.await.map_err(|error| self.full(&error))?;
            }
            match (is_last, is_broken) {
                (true, true) => return Err(Fail::Broken),
                (true, false) => return Ok(held.length),
                _ => {}
            }
        }
    }

    /// Makes a blob of it.
    ///
    /// # Errors
    /// When its digest is another one; nothing is kept then.
    pub async fn finish(&self, id: &str, digest: &Digest, blobs: &Blobs) -> Result<(), Fail> {
        let upload = self.find(id).await?;
        let held = upload.lock().await;
        let found = Digest::from_sha256(&held.hash.clone().finalize());
        if found != *digest {
            self.drop(id).await;
            return Err(Fail::WrongDigest(found));
        }
        self.hold([digest].into_iter());
        blobs.put(self.dir.join(id), digest, held.length).await.map_err(Fail::Refused)?;
        locked(&self.open).remove(id);
        Ok(())
    }

    /// Has these blobs stay for a day: the manifest that names them comes later than they do.
    pub fn hold<'a>(&self, digests: impl Iterator<Item = &'a Digest>) {
        let now = Instant::now();
        locked(&self.held).extend(digests.map(|digest| (digest.clone(), now)));
    }

    /// Blobs that must stay.
    pub fn held(&self) -> Vec<Digest> {
        let mut held = locked(&self.held);
        held.retain(|_, since| since.elapsed() < UNTOUCHED_FOR);
        held.keys().cloned().collect()
    }

    /// Gives it up.
    pub async fn drop(&self, id: &str) {
        locked(&self.open).remove(id);
        let path = self.dir.join(id);
        // Gone already is as good; else it goes within a day.
        let _ = blocking(move || if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }).await;
    }

    /// Removes what nobody touched for a day.
    pub async fn expire(&self) {
        let dir = self.dir.clone();
        let old = blocking(move || {
            let mut old = Vec::new();
            for entry in fs::read_dir(&dir)? {
                let entry = entry?;
                let touched = entry.metadata()?.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                if touched.elapsed().is_ok_and(|age| age > UNTOUCHED_FOR) {
                    old.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
            Ok(old)
        });
        for id in old.await.unwrap_or_default() {
            self.drop(&id).await;
        }
    }

    async fn cut(
        &self,
        held: tokio::sync::OwnedMutexGuard<Upload>,
        length: u64,
    ) -> Result<tokio::sync::OwnedMutexGuard<Upload>, Fail> {
        let mut held = held;
        let cut = blocking(move || {
            held.file.set_len(length)?;
            held.file.seek(SeekFrom::Start(0))?;
            let (mut hash, mut left) = (Sha256::new(), length);
            let mut buffer = vec![0; CHUNK];
            while left > 0 {
                let count = held.file.read(&mut buffer)?;
                hash.update(&buffer[..count]);
                left = left.saturating_sub(count as u64);
                if count == 0 {
                    break;
                }
            }
            (held.hash, held.length) = (hash, length);
            Ok(held)
        });
        cut.await.map_err(|error| self.full(&error))
    }

    async fn find(&self, id: &str) -> Result<Arc<tokio::sync::Mutex<Upload>>, Fail> {
        let known = locked(&self.open).get(id).cloned();
        if let Some(upload) = known {
            return Ok(upload);
        }
        if id.len() != ID_LENGTH || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Fail::Unknown);
        }
        let path = self.dir.join(id);
        let upload = blocking(move || Upload::open(&path)).await.map_err(|_| Fail::Unknown)?;
        let upload = Arc::new(tokio::sync::Mutex::new(upload));
        Ok(locked(&self.open).entry(id.to_owned()).or_insert(upload).clone())
    }

    fn full(&self, error: &io::Error) -> Fail {
        let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let fault = if is_full { Fault::MirrorFull } else { Fault::Other };
        Fail::Refused(Refusal::new(fault, format!("{}: {error}", self.dir.display())))
    }
}
