//! The tar file: each member is hashed on its way.

use std::{
    fs::File,
    io::{self, Read, Write},
};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{INDEX_FILE, Index, Member};

/// No index is longer, in bytes.
const LONGEST_INDEX: u64 = 64 << 20;

/// Hashes what passes through.
struct Hashing<T> {
    inner: T,
    hash: Sha256,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    fn hex(self) -> String {
        self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

/// An archive that is being written.
pub struct Packer<W: Write> {
    tar: tar::Builder<W>,
    created: Timestamp,
    files: Vec<Member>,
}

impl<W: Write> Packer<W> {
    /// An empty one; its files count as made at `created`.
    pub fn new(into: W, created: Timestamp) -> Self {
        Self { tar: tar::Builder::new(into), created, files: Vec::new() }
    }

    /// Adds a file, which must not change meanwhile.
    ///
    /// # Errors
    /// The file system's.
    pub fn add(&mut self, path: &str, file: &File) -> io::Result<()> {
        let size = file.metadata()?.len();
        let mut content = Hashing::new(file.take(size));
        self.tar.append_data(&mut header(size, self.created), path, &mut content)?;
        if content.inner.limit() > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{path} became shorter")));
        }
        self.files.push(Member { path: path.into(), size, sha256: content.hex() });
        Ok(())
    }

    /// Adds the index, with the files that were added.
    ///
    /// # Errors
    /// The file system's.
    pub fn finish(mut self, index: &mut Index) -> io::Result<W> {
        index.files = std::mem::take(&mut self.files);
        let text = serde_json::to_vec_pretty(&index)?;
        self.tar.append_data(&mut header(text.len() as u64, self.created), INDEX_FILE, &text[..])?;
        self.tar.into_inner()
    }
}

fn header(size: u64, created: Timestamp) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(u64::try_from(created.as_second()).unwrap_or_default());
    header
}

/// Reads an archive: `place` opens a file for each path, or refuses it.
///
/// # Errors
/// What is wrong with it.
pub fn unpack(archive: impl Read, mut place: impl FnMut(&str) -> io::Result<File>) -> io::Result<Index> {
    let mut found = Vec::new();
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        if path == INDEX_FILE {
            let index: Index = serde_json::from_reader(entry.take(LONGEST_INDEX))?;
            return check(index, &found);
        }
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(invalid(format!("{path} in it is no plain file")));
        }
        let mut file = place(&path)?;
        let mut content = Hashing::new(&mut entry);
        let size = io::copy(&mut content, &mut file)?;
        file.sync_all()?;
        found.push(Member { path, size, sha256: content.hex() });
    }
    Err(invalid(format!("it was cut off: it has no {INDEX_FILE}")))
}

fn check(index: Index, found: &[Member]) -> io::Result<Index> {
    if let Some(damaged) = index.files.iter().find(|file| !found.contains(file)) {
        return Err(invalid(format!("{} in it is damaged", damaged.path)));
    }
    if let Some(foreign) = found.iter().find(|file| !index.files.contains(file)) {
        return Err(invalid(format!("{} in it is not in its index", foreign.path)));
    }
    Ok(index)
}

/// An archive that can't be used.
pub fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
