//! The folder of an instance: what is where in it, and the lock that keeps a second one out.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::standalone::{IDENTITY_FILE, KUBECONFIG_FILE, STATE_FILE};

/// A folder that holds everything that an instance must not lose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir(PathBuf);

/// Keeps others out of a folder until it is dropped, or until the process ends, however it does.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "open as long as the lock is held")] File);

/// Why a folder can't be had.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Another process has it.
    #[error("{} is in use by {}", .0.display(), .1.map_or("another process".into(), |pid| format!("process {pid}")))]
    Held(PathBuf, Option<u32>),
    /// It can't be used.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, #[source] io::Error),
}

impl DataDir {
    /// This folder, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder that is used when none is named: `drover` in `$XDG_DATA_HOME`, else in `$HOME/.local/share`.
    /// `variable` reads the environment.
    ///
    /// # Errors
    /// When there is no home; it says what to do.
    pub fn usual(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<Self, String> {
        // The XDG specification has relative paths ignored.
        let absolute = |name| variable(name).filter(|path| path.is_absolute());
        let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
        let data = data.ok_or("HOME is not set: name a folder with --data-dir")?;
        Ok(Self(data.join("drover")))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Every object, in SQLite.
    pub fn state(&self) -> PathBuf {
        self.0.join(STATE_FILE)
    }

    /// The API's certificate and token.
    pub fn identity(&self) -> PathBuf {
        self.0.join(IDENTITY_FILE)
    }

    /// The kubeconfig for the API; written at each start.
    pub fn kubeconfig(&self) -> PathBuf {
        self.0.join(KUBECONFIG_FILE)
    }

    /// Where everything listens; there while the instance runs.
    pub fn ready(&self) -> PathBuf {
        self.0.join("ready.json")
    }

    /// The folder of the mirror.
    pub fn mirror(&self) -> PathBuf {
        self.0.join("mirror")
    }

    /// The key that the controller and the mirror share.
    pub fn mirror_key(&self) -> PathBuf {
        self.0.join("mirror-key")
    }

    /// The folder of the gateway.
    pub fn gateway(&self) -> PathBuf {
        self.0.join("gateway")
    }

    /// Makes the folder, for its owner only, if it isn't there, and takes it for this process.
    ///
    /// # Errors
    /// When another process has it, or the file system doesn't let us.
    pub fn lock(&self) -> Result<Lock, Refused> {
        let failed = |error| Refused::Io(self.0.clone(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0).map_err(failed)?;
        let path = self.0.join("lock");
        // Never removed: a lock on a file that has no name any more would keep nobody out.
        let open = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut file = open.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Refused::Held(self.0.clone(), holder(&mut file))),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        note_holder(&mut file).map_err(failed)?;
        Ok(Lock(file))
    }
}

fn note_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// The process that is noted in the file; none in the moment before it notes itself.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Removes a file that may not be there.
///
/// # Errors
/// The file system's.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
