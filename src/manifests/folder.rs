//! The folder on the disk. What begins with a dot is not looked at: editors' and Git's own files, and the folders
//! behind a mounted ConfigMap, whose files are reached by links beside them.

use std::{
    fs::{self, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::documents::{self, Document, Fault, Place};

const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
/// More than the API takes of one object.
const LONGEST_FILE: u64 = 16 << 20;
/// Who has more files has most likely named the wrong folder.
const MOST_ENTRIES: usize = 20_000;

/// What a folder looks like without reading its files: as long as it doesn't change, neither did they.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look(Vec<(PathBuf, Result<Trace, String>)>);

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trace {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Trace {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Everything that stands in a folder.
#[derive(Debug, Default)]
pub struct Contents {
    /// The objects, in the order of their files' names.
    pub documents: Vec<Document>,
    /// What can't be read.
    pub faults: Vec<Fault>,
}

/// Looks at a folder, or at one file.
///
/// # Errors
/// When the folder itself can't be read.
pub fn look(root: &Path) -> io::Result<Look> {
    let mut walk = Walk { found: Vec::new(), above: Vec::new(), seen: 0 };
    match fs::metadata(root)? {
        metadata if metadata.is_dir() => walk.folder(root, &metadata)?,
        metadata => walk.found.push((root.to_owned(), Ok(Trace::of(&metadata)))),
    }
    Ok(Look(walk.found))
}

/// Reads what was seen in a folder.
pub fn read(root: &Path, look: &Look) -> Contents {
    let mut contents = Contents::default();
    for (path, trace) in &look.0 {
        let file = path.strip_prefix(root).ok().filter(|path| !path.as_os_str().is_empty()).unwrap_or(path);
        let file = file.display().to_string();
        match trace.clone().and_then(|_| text_of(path)) {
            Ok(text) => {
                let (documents, faults) = documents::parse(&file, &text);
                contents.documents.extend(documents);
                contents.faults.extend(faults);
            }
            Err(why) => contents.faults.push(Fault { place: Place { file, number: 0 }, why }),
        }
    }
    contents
}

fn text_of(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(LONGEST_FILE + 1).read_to_string(&mut text));
    read.map_err(|error| error.to_string())?;
    if text.len() as u64 > LONGEST_FILE {
        return Err(format!("it is longer than {LONGEST_FILE} bytes"));
    }
    Ok(text)
}

struct Walk {
    found: Vec<(PathBuf, Result<Trace, String>)>,
    /// The folders that lead here: a link back to one of them would lead on for ever.
    above: Vec<(u64, u64)>,
    seen: usize,
}

impl Walk {
    fn folder(&mut self, path: &Path, metadata: &Metadata) -> io::Result<()> {
        let identity = (metadata.dev(), metadata.ino());
        if self.above.contains(&identity) {
            return Ok(());
        }
        let mut names =
            fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>()?;
        names.sort();
        self.above.push(identity);
        for name in names.iter().filter(|name| !name.as_encoded_bytes().starts_with(b".")) {
            self.entry(&path.join(name))?;
        }
        self.above.pop();
        Ok(())
    }

    fn entry(&mut self, path: &Path) -> io::Result<()> {
        self.seen += 1;
        if self.seen > MOST_ENTRIES {
            return Err(io::Error::other(format!("there are more than {MOST_ENTRIES} files in it")));
        }
        let is_manifest = path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
        let trace = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => match self.folder(path, &metadata) {
                Ok(()) => return Ok(()),
                Err(error) if self.seen > MOST_ENTRIES => return Err(error),
                Err(error) => Err(error.to_string()),
            },
            Ok(metadata) if !(is_manifest && metadata.is_file()) => return Ok(()),
            Ok(metadata) => Ok(Trace::of(&metadata)),
            // A link that leads nowhere may have been one to a folder.
            Err(error) => Err(error.to_string()),
        };
        self.found.push((path.to_owned(), trace));
        Ok(())
    }
}
