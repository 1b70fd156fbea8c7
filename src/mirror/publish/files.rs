//! Files of weights: where a Modelfile says they are, and what is in them.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{Blob, Say, Source};
use crate::{
    domain::{
        digest::Digest,
        gguf::{Fault, Head, Kind},
    },
    supervisor::blocking,
};

const MAGIC: &[u8; 4] = b"GGUF";
/// The head is looked for in so many bytes at first, and at most.
const FIRST_HEAD: u64 = 4 << 20;
const LONGEST_HEAD: u64 = 512 << 20;
const CHUNK: usize = 1 << 20;
const EXTENSION: &str = "gguf";
/// Bigger files take long to hash, so people are told.
const SLOW: u64 = 1 << 30;

/// A file of weights.
pub struct Weights {
    /// Its bytes.
    pub blob: Blob,
    /// What it is.
    pub head: Head,
    /// Its name, for people.
    pub name: String,
}

/// Whether a file is one of weights.
///
/// # Errors
/// When it can't be read.
pub async fn is_gguf(path: &Path) -> Result<bool, String> {
    let file = path.to_path_buf();
    let begins = blocking(move || {
        let mut start = Vec::new();
        File::open(file)?.take(MAGIC.len() as u64).read_to_end(&mut start)?;
        Ok(start == MAGIC)
    });
    begins.await.map_err(|error| format!("{}: {error}", path.display()))
}

/// The path from the root on.
///
/// # Errors
/// When there is no such file.
pub fn absolute(path: &Path) -> Result<String, String> {
    let fault = |why: String| format!("{}: {why}", path.display());
    let absolute = fs::canonicalize(path).map_err(|error| fault(error.to_string()))?;
    absolute.into_os_string().into_string().map_err(|_| fault("its path is not text".into()))
}

/// The files that a Modelfile in `folder` means: one, or those of a folder. None: there is nothing of that name.
///
/// # Errors
/// When there is something, but no weights that can be used.
pub fn find(folder: &Path, text: &str) -> Result<Option<Vec<PathBuf>>, String> {
    let path = match text.strip_prefix("~/") {
        Some(rest) => std::env::home_dir().unwrap_or_default().join(rest),
        None => folder.join(text),
    };
    if path.is_file() {
        return Ok(Some(vec![path]));
    }
    if !path.is_dir() {
        let is_path = text.starts_with(['/', '.', '~']) || text.ends_with(".gguf");
        return if is_path { Err(format!("{}: there is no such file", path.display())) } else { Ok(None) };
    }
    let fault = |why: String| format!("{}: {why}", path.display());
    let entries = fs::read_dir(&path).map_err(|error| fault(error.to_string()))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file() && path.extension().is_some_and(|extension| extension == EXTENSION))
        .collect();
    found.sort();
    match found.is_empty() {
        true => Err(fault("this folder has no GGUF files; convert other weights first, with `ollama create`".into())),
        false => Ok(Some(found)),
    }
}

/// Reads what a file of weights is, and its digest.
///
/// # Errors
/// When it is none, or cut off.
pub async fn read(path: PathBuf, is_adapter: bool, say: Say<'_>) -> Result<Weights, String> {
    let name = path.display().to_string();
    let fault = |why: String| format!("{name}: {why}");
    let file = path.clone();
    let looked = blocking(move || {
        let mut file = File::open(file)?;
        let size = file.metadata()?.len();
        Ok((head(&mut file, size)?, size))
    });
    let (head, size) = looked.await.map_err(|error| fault(error.to_string()))?;
    let head = head.map_err(fault)?;
    if head.least_size > size {
        return Err(fault(format!("it is cut off: {size} bytes of at least {}", head.least_size)));
    }
    if is_adapter && head.kind != Kind::Adapter {
        return Err(fault("it is no adapter: its general.type is not `adapter`".into()));
    }
    if size > SLOW {
        say(&format!("computing the digest of {name}"));
    }
    let file = path.clone();
    let digest = blocking(move || hash(&mut File::open(file)?)).await.map_err(|error| fault(error.to_string()))?;
    Ok(Weights { blob: Blob { digest, size, source: Source::File(path) }, head, name })
}

fn head(file: &mut File, size: u64) -> io::Result<Result<Head, String>> {
    let (mut bytes, mut wanted) = (Vec::new(), FIRST_HEAD);
    loop {
        file.take(wanted - bytes.len() as u64).read_to_end(&mut bytes)?;
        match Head::parse(&bytes) {
            Ok(head) => return Ok(Ok(head)),
            Err(Fault::Broken(why)) => return Ok(Err(format!("it is no sound GGUF file: {why}"))),
            Err(Fault::Short(needed)) if needed > size || needed > LONGEST_HEAD || wanted >= LONGEST_HEAD => {
                return Ok(Err("it is no sound GGUF file, or cut off: its head has no end".into()));
            }
            Err(Fault::Short(needed)) => wanted = needed.max(wanted * 2).min(LONGEST_HEAD),
        }
    }
}

fn hash(file: &mut File) -> io::Result<Digest> {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_sha256(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}
