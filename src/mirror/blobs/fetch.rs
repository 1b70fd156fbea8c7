//! Brings a blob's bytes from its registry, and looks after what has arrived.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use sha2::Digest as _;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::{
    Store,
    blob::{Blob, Hashed, Kept},
};
use crate::{
    domain::{backoff, digest::Digest, pull::Fault, ranges::Ranges},
    mirror::{
        locked,
        refusal::Refusal,
        upstream::{Origin, SILENT_AT_MOST},
    },
    supervisor::blocking,
};

/// So many tries in a row may bring nothing.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// At most so many pieces of an answer are written at once, if they are there.
const PIECES: usize = 64;
/// The journal is written whenever so many bytes came.
const NOTE_EVERY: u64 = 8 << 20;
const HASH_AT_ONCE: usize = 1 << 20;
/// Fewer bytes wait for more.
const HASH_EVERY: u64 = 4 << 20;

/// Brings what fetch `id` is to bring, and goes on where a broken connection left it.
pub async fn run(store: Arc<Store>, blob: Arc<Blob>, id: u64, origin: Arc<Origin>) {
    let result = bring(&store, &blob, id, &origin).await;
    if let Err(refusal) = &result {
        warn!(blob = %blob.digest, registry = origin.source.host, reason = refusal.fault.reason(), "{refusal}");
    }
    store.meters.fetch_ended();
    blob.ended(id, result);
}

async fn bring(store: &Store, blob: &Arc<Blob>, id: u64, origin: &Origin) -> Result<(), Refusal> {
    let mut failures = 0;
    loop {
        let Some(range) = blob.rest(id) else { return Ok(()) };
        let before = range.start;
        match one_request(store, blob, id, origin, range).await {
            Ok(()) => {}
            Err(refusal) if refusal.fault != Fault::RegistryUnreachable || origin.is_forgotten() => {
                return Err(refusal);
            }
            Err(refusal) => {
                let came = blob.rest(id).is_none_or(|rest| rest.start > before);
                failures = if came { 1 } else { failures + 1 };
                if failures >= TRIES {
                    return Err(refusal);
                }
                debug!(blob = %blob.digest, failures, "{refusal}");
                tokio::time::sleep(backoff::delay(failures, FIRST_WAIT, LONGEST_WAIT, rand::random())).await;
            }
        }
    }
}

/// One answer of the registry, as far as it comes.
async fn one_request(
    store: &Store,
    blob: &Arc<Blob>,
    id: u64,
    origin: &Origin,
    range: Range<u64>,
) -> Result<(), Refusal> {
    let mut from = range.start;
    let opened = store.upstream.blob(origin, &blob.digest, blob.size, range).await?;
    if opened.ignores_ranges {
        // Only one fetch takes all of it, from the first byte that is missing; whoever waited for another joins it.
        let rest = blob.take_whole(id).then(|| blob.rest(id)).flatten();
        let Some(rest) = rest else { return Ok(()) };
        from = rest.start;
    }
    let mut at = opened.start;
    let mut body = opened.body.ready_chunks(PIECES);
    loop {
        let next = timeout(SILENT_AT_MOST, body.next()).await;
        let Some(pieces) = next.map_err(|_| cut(origin, &format!("nothing came for {SILENT_AT_MOST:?}")))? else {
            break;
        };
        let end = blob.end_of(id);
        let (came, broken) = until_error(pieces);
        let total = length(&came);
        store.meters.bytes_in(total);
        store.bandwidth.pass(total).await;
        let clipped = clip(came, at, from.max(at)..end);
        at += total;
        if !clipped.is_empty() {
            let start = from.max(at - total);
            let end = start + length(&clipped);
            write(store, blob, start, clipped).await?;
            blob.arrived(id, start..end);
        }
        if let Some(error) = broken {
            return Err(cut(origin, &error.to_string()));
        }
        if at >= end || blob.rest(id).is_none() {
            return Ok(());
        }
    }
    match at >= blob.end_of(id) {
        true => Ok(()),
        false => Err(cut(origin, "the answer ended early")),
    }
}

fn until_error(pieces: Vec<io::Result<Bytes>>) -> (Vec<Bytes>, Option<io::Error>) {
    let mut came = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match piece {
            Ok(piece) => came.push(piece),
            Err(error) => return (came, Some(error)),
        }
    }
    (came, None)
}

fn length(pieces: &[Bytes]) -> u64 {
    pieces.iter().map(|piece| piece.len() as u64).sum()
}

fn cut(origin: &Origin, why: &str) -> Refusal {
    let message = format!("the connection to {} broke: {why}", origin.source.host);
    Refusal::new(Fault::RegistryUnreachable, message)
}

/// Of pieces that begin at byte `at`, the part that lies in `wanted`.
fn clip(pieces: Vec<Bytes>, mut at: u64, wanted: Range<u64>) -> Vec<Bytes> {
    let mut kept = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let end = at + piece.len() as u64;
        let (from, to) = (wanted.start.clamp(at, end), wanted.end.clamp(at, end));
        if from < to {
            kept.push(piece.slice((from - at) as usize..(to - at) as usize));
        }
        at = end;
    }
    kept
}

/// Writes to the file of the blob; when the disk is full, tries once more after making room.
async fn write(store: &Store, blob: &Arc<Blob>, at: u64, pieces: Vec<Bytes>) -> Result<(), Refusal> {
    let Some(file) = blob.partial_file() else { return Ok(()) };
    let pieces = Arc::new(pieces);
    let once = || {
        let (file, pieces) = (file.clone(), pieces.clone());
        blocking(move || {
            pieces.iter().try_fold(at, |at, piece| file.write_all_at(piece, at).map(|()| at + piece.len() as u64))
        })
    };
    let failed = |error: io::Error| match is_full(&error) {
        true => super::disk_full(&store.dir),
        false => Refusal::new(Fault::Other, format!("{} can't be written: {error}", blob.files.part.display())),
    };
    match once().await {
        Ok(_) => Ok(()),
        Err(error) if is_full(&error) && store.drop_oldest().await => once().await.map(drop).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Notes what has arrived, hashes it, and gives the blob its name when all of it is there and right.
pub async fn keep(store: Arc<Store>, blob: Arc<Blob>) {
    let mut noted = blob.kept().map_or(0, |kept| kept.have.len());
    // At most one; nobody waits for the disk but the next note.
    let mut noting = FuturesUnordered::new();
    let mut changes = blob.changes();
    loop {
        changes.mark_unchanged();
        let Some(kept) = blob.kept() else { return };
        let arrived = kept.have.len();
        if kept.is_fetched {
            let mut result = verify(&store, &blob, &kept).await;
            if result.is_ok() {
                blob.verified(); // readers get the end now; the disk takes its time
            }
            noting.collect::<Vec<_>>().await;
            if result.is_ok() {
                result = place(&blob, kept.file).await;
            }
            return match result {
                Ok(()) => blob.completed(),
                Err(refusal) => store.forget(&blob, refusal).await,
            };
        }
        if noting.is_empty() && (arrived >= noted + NOTE_EVERY || (arrived > noted && blob.fetches() == 0)) {
            noting.push(note(blob.clone(), kept.file.clone(), kept.have.clone()));
        }
        let unhashed = kept.have.run(locked(&blob.hashed).at);
        if unhashed >= HASH_EVERY
            && let Err(error) = hash(&blob, &kept).await
        {
            warn!(blob = %blob.digest, %error, "the bytes can't be read");
        }
        if noting.is_empty() && blob.release_keeper(noted) {
            return;
        }
        tokio::select! {
            // As long as the blob is kept, the sender is there.
            _ = changes.changed() => {}
            Some(bytes) = noting.next() => noted = bytes,
        }
    }
}

/// Writes the journal; of how many bytes.
async fn note(blob: Arc<Blob>, file: Arc<File>, have: Ranges) -> u64 {
    let (bytes, files, size) = (have.len(), blob.files.clone(), blob.size);
    if let Err(error) = blocking(move || files.note(&file, size, &have)).await {
        warn!(blob = %blob.digest, %error, "the journal could not be written: a restart fetches more again");
    }
    bytes
}

/// Hashes on to the first gap.
async fn hash(blob: &Arc<Blob>, kept: &Kept) -> io::Result<Hashed> {
    let (file, have, own) = (kept.file.clone(), kept.have.clone(), blob.clone());
    blocking(move || {
        let mut hashed = locked(&own.hashed).clone();
        let result = hash_on(&mut hashed, &file, &have);
        *locked(&own.hashed) = hashed.clone();
        result.map(|()| hashed)
    })
    .await
}

fn hash_on(hashed: &mut Hashed, file: &File, have: &Ranges) -> io::Result<()> {
    let mut buffer = vec![0; HASH_AT_ONCE];
    loop {
        let run = usize::try_from(have.run(hashed.at)).unwrap_or(usize::MAX).min(buffer.len());
        if run == 0 {
            return Ok(());
        }
        file.read_exact_at(&mut buffer[..run], hashed.at)?;
        hashed.sha.update(&buffer[..run]);
        hashed.at += run as u64;
    }
}

/// Whether the bytes are what the digest says.
async fn verify(store: &Store, blob: &Arc<Blob>, kept: &Kept) -> Result<(), Refusal> {
    let hashed = hash(blob, kept)
        .await
        .map_err(|error| Refusal::new(Fault::Other, format!("{} can't be read: {error}", blob.files.part.display())))?;
    let digest = Digest::from_sha256(&hashed.sha.finalize());
    if digest == blob.digest {
        return Ok(());
    }
    store.mark_damaged(&blob.digest);
    store.meters.corrupt();
    let message = format!(
        "digest mismatch: the registry sent {digest} for blob {}: the bytes were damaged on the way or at the \
         registry, and are asked for again",
        blob.digest
    );
    Err(Refusal::new(Fault::DigestMismatch, message))
}

/// Gives the blob its own name.
async fn place(blob: &Arc<Blob>, file: Arc<File>) -> Result<(), Refusal> {
    let files = blob.files.clone();
    blocking(move || files.finish(&file)).await.map_err(|error| {
        let fault = if is_full(&error) { Fault::MirrorFull } else { Fault::Other };
        Refusal::new(fault, format!("{} can't be finished: {error}", blob.files.whole.display()))
    })
}
