//! Making a folder of a backup.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, BufReader},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Component, Path, PathBuf},
};

use jiff::Timestamp;

use super::{
    FORMAT, Index, MIRROR,
    archive::{invalid, unpack},
};
use crate::{
    data_dir::{DataDir, sync_folder},
    mirror,
    standalone::backup::{Contents, contents, renew},
    supervisor::blocking,
};

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The archive's.
    pub index: Index,
    /// How many objects there are, and the revision that they begin with.
    pub contents: Contents,
}

/// Makes a folder of a backup. The folder is then what the backup says, or untouched, also when the process is killed;
/// models that only the mirror there has stay.
///
/// # Errors
/// When an instance has the folder, when a state is there already and `force` is not given, when the archive is
/// damaged, or the file system doesn't let us: what is wrong, and what to do.
pub async fn restore(dir: &DataDir, file: &Path, force: bool, now: Timestamp) -> Result<Restored, String> {
    let archive = File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let lock = dir.lock().map_err(|why| format!("{why}: stop it first"))?;
    let is_used = dir.state().exists();
    if is_used && !force {
        let path = dir.path().display();
        return Err(format!(
            "{path} has a state already: name another folder with --data-dir, or replace it with --force"
        ));
    }
    let failed = |error: io::Error| format!("{}: {error}", dir.path().display());
    let stage = dir.stage(&lock).map_err(failed)?;
    match put_together(&DataDir::new(&stage), archive, is_used.then(|| dir.state()), now).await {
        Ok(restored) => dir.replace(&lock).map_err(failed).map(|()| restored),
        Err(why) => {
            dir.discard(&lock).map_err(failed)?;
            Err(format!("{} can't be restored: {why}", file.display()))
        }
    }
}

/// Unpacks an archive; its objects go on where `present` may have come to by `now`.
async fn put_together(
    stage: &DataDir,
    archive: File,
    present: Option<PathBuf>,
    now: Timestamp,
) -> Result<Restored, String> {
    let target = stage.path().to_owned();
    let unpacked = blocking(move || unpack(BufReader::new(archive), |path| place(&target, path))).await;
    let index = unpacked.map_err(|error| error.to_string())?;
    if index.format > FORMAT {
        return Err(format!("Drover {} wrote it: use that", index.version));
    }
    if !stage.state().exists() {
        return Err("no objects are in it".into());
    }
    let known = match present {
        // A state that is damaged is a reason to restore; what it had come to is then not known.
        Some(state) => contents(&state).await.map_or(0, |contents| contents.revision),
        None => 0,
    };
    let contents = renew(&stage.state(), known.max(beyond(now))).await?;
    sync(stage).map_err(|error| error.to_string())?;
    Ok(Restored { index, contents })
}

/// A revision that no state has come to by now, wherever and how often the same backup was restored: the microseconds
/// since 1970. No instance makes a change each microsecond; JSON numbers are exact that far.
fn beyond(now: Timestamp) -> u64 {
    u64::try_from(now.as_microsecond()).unwrap_or_default()
}

fn sync(staged: &DataDir) -> io::Result<()> {
    File::open(staged.state())?.sync_all()?;
    for folder in [mirror::MODELS, mirror::BLOBS].map(|folder| staged.path().join(MIRROR).join(folder)) {
        if folder.exists() {
            sync_folder(&folder)?;
        }
    }
    sync_folder(staged.path())
}

/// Opens a file of the archive under `stage`; only what a backup can hold gets a place.
fn place(stage: &Path, path: &str) -> io::Result<File> {
    let names: Vec<_> = Path::new(path).components().collect();
    let is_plain = names.iter().all(|name| matches!(name, Component::Normal(_)));
    let fits = match path.split('/').collect::<Vec<_>>()[..] {
        [name] => !name.is_empty(),
        [MIRROR, folder, name] => [mirror::MODELS, mirror::BLOBS].contains(&folder) && !name.is_empty(),
        _ => false,
    };
    if !is_plain || !fits {
        return Err(invalid(format!("{path:?} in it belongs nowhere")));
    }
    let target = stage.join(path);
    if let Some(folder) = target.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)
}
