//! What is on disk of a blob that is not complete: its bytes, and beside them a journal of those that are surely
//! there. The journal is written only after the bytes were synchronised, so it never claims too much, however the
//! process or the machine ends.

use std::{
    fs::{self, File},
    io::{self, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::domain::{digest::Digest, ranges::Ranges};

/// Where the files of one blob are.
#[derive(Clone, Debug)]
pub struct Files {
    /// Complete and verified.
    pub whole: PathBuf,
    /// As far as it came.
    pub part: PathBuf,
    journal: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Journal {
    size: u64,
    ranges: Vec<Range<u64>>,
}

const PREFIX: &str = "sha256-";
const PART: &str = ".part";
const JOURNAL: &str = ".json";

impl Files {
    /// Those of a blob in `dir`.
    pub fn new(dir: &Path, digest: &Digest) -> Self {
        let name = |end: &str| dir.join(format!("{PREFIX}{}{end}", digest.hex()));
        Self { whole: name(""), part: name(PART), journal: name(JOURNAL) }
    }

    /// A file for the bytes to come, without any.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(&self) -> io::Result<File> {
        self.forget()?;
        File::options().create(true).truncate(true).read(true).write(true).open(&self.part)
    }

    /// Makes the bytes written so far last, and notes which they are.
    ///
    /// # Errors
    /// The file system's; the journal is then as it was.
    pub fn note(&self, file: &File, size: u64, have: &Ranges) -> io::Result<()> {
        file.sync_data()?;
        let journal = Journal { size, ranges: have.iter().collect() };
        write_whole(&self.journal, &serde_json::to_vec(&journal)?)
    }

    /// What is there of a blob that was not completed, with its size.
    pub fn resume(&self) -> Option<(File, u64, Ranges)> {
        let journal: Journal = serde_json::from_slice(&fs::read(&self.journal).ok()?).ok()?;
        let file = File::options().read(true).write(true).open(&self.part).ok()?;
        let on_disk = file.metadata().ok()?.len().min(journal.size);
        let ranges = journal.ranges.into_iter().map(|range| range.start..range.end.min(on_disk));
        Some((file, journal.size, Ranges::of(ranges.filter(|range| range.start < range.end))))
    }

    /// The bytes are complete and verified.
    ///
    /// # Errors
    /// The file system's.
    pub fn finish(&self, file: &File) -> io::Result<()> {
        file.sync_data()?;
        fs::rename(&self.part, &self.whole)?;
        sync_folder(&self.whole)?;
        removed(fs::remove_file(&self.journal))
    }

    /// Drops what is not complete.
    ///
    /// # Errors
    /// The file system's; nothing there is none.
    pub fn forget(&self) -> io::Result<()> {
        // The journal first: without it, bytes count for nothing.
        removed(fs::remove_file(&self.journal))?;
        removed(fs::remove_file(&self.part))
    }

    /// Drops everything.
    ///
    /// # Errors
    /// As [`Self::forget`].
    pub fn remove(&self) -> io::Result<()> {
        self.forget()?;
        removed(fs::remove_file(&self.whole))
    }
}

fn removed(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The blobs that files in `dir` belong to.
///
/// # Errors
/// The file system's.
pub fn found(dir: &Path) -> io::Result<std::collections::BTreeSet<Digest>> {
    let mut digests = std::collections::BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let hex = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let hex = hex.map(|hex| hex.split('.').next().unwrap_or(hex));
        digests.extend(hex.and_then(|hex| format!("sha256:{hex}").parse().ok()));
    }
    Ok(digests)
}

/// Writes a file so that it is there with the new or the old content, whatever happens.
///
/// # Errors
/// The file system's.
pub fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = private(&new)?;
    file.write_all(content)?;
    file.sync_data()?;
    fs::rename(&new, path)?;
    sync_folder(path)
}

/// A new file that only this user can read.
fn private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().create(true).truncate(true).write(true).mode(0o600).open(path)
}

/// Makes the names in the folder of `path` last.
fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
