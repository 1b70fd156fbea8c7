//! Making a backup, also while the instance runs.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{FORMAT, Index, MIRROR, Missing, archive::Packer};
use crate::{
    data_dir::{DataDir, Refused, sync_folder},
    mirror::{self, Stored},
    standalone::backup::copy,
    supervisor::blocking,
};

/// Which bytes of models are taken along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Blobs {
    /// None
    #[default]
    None,
    /// Those of models that are on this mirror only
    Own,
    /// All that the mirror has
    All,
}

/// Writes a backup of a folder. The file is there whole, or as it was before.
///
/// # Errors
/// What can't be read or written, and what to do.
pub async fn create(dir: &DataDir, file: &Path, blobs: Blobs, now: Timestamp) -> Result<Index, String> {
    if !dir.state().exists() {
        let path = dir.path().display();
        return Err(format!("{path}: nothing is kept there; name the folder of the instance with --data-dir"));
    }
    finish_what_was_begun(dir)?;
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    // As with an instance's folder, the lock goes with the process, and what a killed one left is used again.
    let scratch = DataDir::new(PathBuf::from(name));
    let lock = scratch.lock().map_err(|why| why.to_string())?;
    let written = write(dir, file, &scratch, blobs, now).await;
    let path = scratch.path().to_owned();
    let removed = blocking(move || fs::remove_dir_all(path)).await;
    drop(lock);
    if dir.is_being_replaced() && written.is_ok() {
        return Err(format!("{}: another backup is being restored there: try again", dir.path().display()));
    }
    let index = written?;
    removed.map_err(|error| format!("{}: {error}", scratch.path().display()))?;
    Ok(index)
}

/// A killed restore is finished by whoever locks the folder, unless an instance has it, which did that already.
fn finish_what_was_begun(dir: &DataDir) -> Result<(), String> {
    match dir.lock() {
        Err(Refused::Held(..)) if !dir.is_being_replaced() => Ok(()),
        outcome => outcome.map(drop).map_err(|why| why.to_string()),
    }
}

async fn write(dir: &DataDir, file: &Path, scratch: &DataDir, blobs: Blobs, now: Timestamp) -> Result<Index, String> {
    let say = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| format!("{path}: {error}")
    };
    let mut members = Vec::new();
    for database in dir.databases().map_err(say(dir.path()))? {
        let name = database.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let copied = scratch.path().join(&name);
        // One that a killed backup left would be in the way.
        let _ = fs::remove_file(&copied);
        copy(&database, &copied).await?;
        members.push((name, copied));
    }
    let private = [dir.identity(), dir.mirror_key()].into_iter().filter(|path| path.exists());
    members.extend(private.map(|path| (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path)));
    let mirror = dir.mirror();
    let models = blocking(move || mirror::stored(&mirror)).await.map_err(say(&dir.mirror()))?;
    let (files, missing) = of_mirror(&models, blobs);
    members.extend(files);
    let mut index =
        Index { format: FORMAT, version: env!("CARGO_PKG_VERSION").into(), created: now, files: Vec::new(), missing };
    let (draft, target) = (scratch.path().join("archive"), file.to_owned());
    let packing = blocking(move || {
        pack(&members, &draft, &mut index)?;
        fs::rename(&draft, &target)?;
        sync_folder(target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        Ok(index)
    });
    packing.await.map_err(say(file))
}

/// The files of the mirror that are taken along, and the models of its own whose bytes are not.
fn of_mirror(models: &[Stored], blobs: Blobs) -> (Vec<(String, PathBuf)>, Vec<Missing>) {
    let (mut files, mut missing) = (std::collections::BTreeMap::new(), Vec::new());
    let place = |folder: &str, file: &Path| {
        format!("{MIRROR}/{folder}/{}", file.file_name().unwrap_or_default().to_string_lossy())
    };
    for model in models {
        let takes_bytes = blobs == Blobs::All && model.is_whole || blobs == Blobs::Own && model.is_own;
        if model.is_own || takes_bytes {
            files.insert(place(mirror::MODELS, &model.file), model.file.clone());
        }
        if takes_bytes {
            files.extend(model.blobs.iter().map(|(_, blob)| (place(mirror::BLOBS, blob), blob.clone())));
        }
        if model.is_own && !(takes_bytes && model.is_whole) {
            missing.push(Missing { name: model.name.clone(), size: model.size });
        }
    }
    (files.into_iter().collect(), missing)
}

fn pack(members: &[(String, PathBuf)], draft: &Path, index: &mut Index) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(draft)?;
    let mut packer = Packer::new(BufWriter::new(file), index.created);
    for (path, file) in members {
        let name = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
        match File::open(file) {
            // The mirror made room meanwhile: a registry has it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.starts_with(MIRROR) => {}
            opened => packer.add(path, &opened.map_err(name)?).map_err(name)?,
        }
    }
    let mut written = packer.finish(index)?;
    written.flush()?;
    written.get_ref().sync_all()
}
