//! The folder of an instance: what is where in it, the lock that keeps a second one out, and how another state takes
//! the place of what is there: in one step, whenever the process is killed.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::standalone::{IDENTITY_FILE, KUBECONFIG_FILE, STATE_FILE};

/// Where another state is put together.
const UNFINISHED: &str = "restore.partial";
/// The same, once it is complete: it then counts, and only has to be moved.
const FINISHED: &str = "restore";

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

    /// Every database in it.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn databases(&self) -> io::Result<Vec<PathBuf>> {
        let paths = fs::read_dir(&self.0)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        let mut databases: Vec<_> = paths.into_iter().filter(|path| is_database(path)).collect();
        databases.sort();
        Ok(databases)
    }

    /// Makes the folder, for its owner only, if it isn't there, and takes it for this process. What a killed process
    /// left half done is finished or undone.
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
        self.settle().map_err(failed)?;
        Ok(Lock(file))
    }

    /// A new folder, in which files can be put together that are to take the place of those here.
    ///
    /// # Errors
    /// The file system's.
    pub fn stage(&self, _lock: &Lock) -> io::Result<PathBuf> {
        let stage = self.0.join(UNFINISHED);
        remove_folder(&stage)?;
        DirBuilder::new().mode(0o700).create(&stage)?;
        Ok(stage)
    }

    /// Puts what was staged, which must be on the disk, into the place of what is here. A process that is killed
    /// meanwhile has done all of it or nothing.
    ///
    /// # Errors
    /// The file system's. What is then half done is finished by the next [`Self::lock`].
    pub fn replace(&self, _lock: &Lock) -> io::Result<()> {
        fs::rename(self.0.join(UNFINISHED), self.0.join(FINISHED))?;
        sync_folder(&self.0)?;
        self.settle()
    }

    /// Drops what was staged.
    ///
    /// # Errors
    /// The file system's.
    pub fn discard(&self, _lock: &Lock) -> io::Result<()> {
        remove_folder(&self.0.join(UNFINISHED))
    }

    /// Whether files are being replaced, or will be when the folder is locked.
    pub fn is_being_replaced(&self) -> bool {
        self.0.join(UNFINISHED).exists() || self.0.join(FINISHED).exists()
    }

    fn settle(&self) -> io::Result<()> {
        remove_folder(&self.0.join(UNFINISHED))?;
        let finished = self.0.join(FINISHED);
        if !finished.exists() {
            return Ok(());
        }
        // Both tell of the state that goes.
        remove_if_there(&self.kubeconfig())?;
        remove_if_there(&self.ready())?;
        move_into(&finished, &self.0)?;
        fs::remove_dir_all(&finished)?;
        sync_folder(&self.0)
    }
}

/// Moves every file to its place, over the one that may be there.
fn move_into(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            move_into(&entry.path(), &target)?;
            continue;
        }
        if is_database(&target) {
            // What SQLite keeps beside the file that goes must not be taken for a part of the one that comes.
            for part in ["-wal", "-shm", "-journal"] {
                let mut name = OsString::from(&target);
                name.push(part);
                remove_if_there(Path::new(&name))?;
            }
        }
        fs::rename(entry.path(), target)?;
    }
    sync_folder(to)
}

fn is_database(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "db")
}

/// Makes the names in a folder last.
///
/// # Errors
/// The file system's.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
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
