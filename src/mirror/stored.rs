//! What a mirror keeps in its folder, read from outside, also while the mirror runs.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    BLOBS, MODELS,
    blobs::blob_file,
    models::{Models, Provenance},
};
use crate::domain::digest::Digest;

/// A model that a mirror knows.
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Whether it is nowhere else.
    pub is_own: bool,
    /// The file with its manifest.
    pub file: PathBuf,
    /// The files with its bytes, as far as they are complete, by digest.
    pub blobs: Vec<(Digest, PathBuf)>,
    /// How many bytes all of it has.
    pub size: u64,
    /// Whether all of them are there.
    pub is_whole: bool,
}

/// The models in the folder of a mirror, by name; none if there is no such folder.
///
/// # Errors
/// The file system's.
pub fn stored(dir: &Path) -> io::Result<Vec<Stored>> {
    if !dir.join(MODELS).is_dir() {
        return Ok(Vec::new());
    }
    let models = Models::open(&dir.join(MODELS))?;
    let describe = |model: &std::sync::Arc<super::models::Model>| {
        let parts = model.manifest.blobs().unwrap_or_default();
        let files = parts.keys().map(|digest| (digest.clone(), blob_file(&dir.join(BLOBS), digest)));
        let blobs: Vec<_> = files.filter(|(_, file)| file.is_file()).collect();
        Stored {
            name: model.name.clone(),
            is_own: model.provenance == Provenance::Own,
            file: models.file(&model.name),
            is_whole: blobs.len() == parts.len(),
            size: parts.values().sum(),
            blobs,
        }
    };
    Ok(models.list().iter().map(describe).collect())
}
