//! Reads a blob, also while it is fetched.

use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};

use super::{
    Blobs,
    blob::{Awaited, Reading, Step},
};
use crate::{
    mirror::{locked, refusal::Refusal, upstream::Origin},
    supervisor::blocking,
};

/// So many bytes are read at once.
const CHUNK: usize = 512 << 10;
/// So many chunks are read ahead of the one that is sent.
const AHEAD: usize = 2;
/// So many buffers are kept for the next reads.
const SPARE: usize = 32;

/// Buffers that were used before: new ones would have to be zeroed, and their pages found, for each chunk.
#[derive(Clone, Default)]
pub struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

struct Filled {
    buffer: Vec<u8>,
    length: usize,
    home: Buffers,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        let mut spare = locked(&self.home.0);
        if spare.len() < SPARE {
            spare.push(std::mem::take(&mut self.buffer));
        }
    }
}

impl Buffers {
    /// `length` bytes of the file, at most a chunk.
    async fn read(&self, file: &Arc<File>, at: u64, length: usize) -> io::Result<Bytes> {
        let (file, home) = (file.clone(), self.clone());
        blocking(move || {
            let buffer = locked(&home.0).pop().unwrap_or_else(|| vec![0; CHUNK]);
            let mut filled = Filled { buffer, length, home };
            file.read_exact_at(&mut filled.buffer[..length], at)?;
            Ok(Bytes::from_owner(filled))
        })
        .await
    }
}

/// The bytes of a reader, in order. An error ends them, so that nobody takes them for complete.
pub struct Reader {
    store: Blobs,
    reading: Reading,
    origin: Option<Arc<Origin>>,
    file: Arc<File>,
    at: u64,
    end: u64,
    waited: Option<Awaited>,
}

impl Reader {
    pub(super) fn new(
        store: Blobs,
        reading: Reading,
        origin: Option<Arc<Origin>>,
        file: Arc<File>,
        range: Range<u64>,
    ) -> Self {
        Self { store, reading, origin, file, at: range.start, end: range.end, waited: None }
    }

    /// Waits until the next bytes can be read; how many.
    ///
    /// # Errors
    /// Why they don't come.
    pub async fn ready(&mut self) -> Result<u64, Refusal> {
        let mut changes = self.reading.blob().changes();
        loop {
            changes.mark_unchanged();
            let blob = self.reading.blob();
            match blob.step(self.at, self.end, self.origin.as_ref(), self.waited.take()) {
                Step::Read(length) => return Ok(length),
                Step::Fail(refusal) => return Err(refusal),
                Step::Wait(waited) => {
                    self.store.keep(blob);
                    self.waited = waited;
                }
                Step::Fetch { id, awaited } => {
                    self.store.fetch(blob, id, awaited.origin.clone());
                    self.waited = Some(awaited);
                }
            }
            // The blob, which has the sender, lives as long as this reader.
            let _ = changes.changed().await;
        }
    }

    /// All bytes of the range.
    pub fn stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        match self.reading.blob().is_complete() {
            true => self.whole().left_stream(),
            false => self.growing().right_stream(),
        }
    }

    /// Of a complete blob: read ahead.
    fn whole(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        let (start, end) = (self.at, self.end);
        let reader = Arc::new(self);
        let starts = (start..end).step_by(CHUNK);
        let chunks = starts.map(move |at| {
            let reader = reader.clone();
            async move {
                let length = (end - at).min(CHUNK as u64) as usize;
                let chunk = reader.store.buffers().read(&reader.file, at, length).await;
                reader.count(chunk)
            }
        });
        stream::iter(chunks).buffered(AHEAD)
    }

    fn growing(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        stream::try_unfold(self, |mut reader| async move {
            if reader.at >= reader.end {
                return Ok(None);
            }
            let length = reader.ready().await.map_err(io::Error::other)?.min(CHUNK as u64) as usize;
            let chunk = reader.store.buffers().read(&reader.file, reader.at, length).await;
            let chunk = reader.count(chunk)?;
            reader.at += length as u64;
            Ok(Some((chunk, reader)))
        })
        .into_stream()
    }

    fn count(&self, chunk: io::Result<Bytes>) -> io::Result<Bytes> {
        if let Ok(chunk) = &chunk {
            self.store.meters().bytes_out(chunk.len() as u64);
        }
        chunk
    }
}
