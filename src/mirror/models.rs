//! The models that the mirror knows by name, on disk: its own, and those that it fetched from registries.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{blobs::write_whole, locked, sha256};
use crate::{
    domain::{digest::Digest, manifest::Manifest, model_name::ModelName},
    supervisor::blocking,
};

/// Uses within so long of the last one are not noted on disk.
const NOTE_USE_EVERY: Duration = Duration::from_secs(3600);

/// Where a model came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provenance {
    /// People brought it here; it is nowhere else, and never evicted.
    Own,
    /// A registry has it.
    Cached,
}

/// A model by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// Host, namespace, model and tag; or `@` and the registry's digest where that was asked for.
    pub name: String,
    /// The manifest as nodes get it.
    pub manifest: Manifest,
    /// Its digest.
    pub digest: Digest,
    /// The digest of the manifest as the registry has it.
    pub upstream_digest: Digest,
    /// Where it came from.
    pub provenance: Provenance,
    /// Whether a registry gave it to a grant's own login.
    pub is_private: bool,
    /// When a grant or a node last asked for it.
    pub used: Timestamp,
}

/// Every model; cheap to clone.
#[derive(Clone)]
pub struct Models {
    dir: PathBuf,
    all: Arc<Mutex<BTreeMap<String, Arc<Model>>>>,
}

impl Model {
    /// One that people brought here.
    pub fn own(name: &ModelName, manifest: Manifest, now: Timestamp) -> Self {
        let digest = sha256(manifest.encode().as_bytes());
        Self {
            name: key(name),
            manifest,
            upstream_digest: digest.clone(),
            digest,
            provenance: Provenance::Own,
            is_private: false,
            used: now,
        }
    }
}

/// The name under which a model is kept.
pub fn key(name: &ModelName) -> String {
    name.to_string().to_ascii_lowercase()
}

impl Models {
    /// The models in `dir`. A file that can't be read is left out, and named in the log.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match serde_json::from_slice::<Model>(&fs::read(&path)?) {
                Ok(model) => _ = all.insert(model.name.clone(), Arc::new(model)),
                Err(error) => tracing::warn!(file = %path.display(), %error, "not a model: left out"),
            }
        }
        Ok(Self { dir: dir.into(), all: Arc::new(Mutex::new(all)) })
    }

    /// The model of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Model>> {
        locked(&self.all).get(&name.to_ascii_lowercase()).cloned()
    }

    /// The mirror's own model of this name.
    pub fn own(&self, name: &ModelName) -> Option<Arc<Model>> {
        self.get(&key(name)).filter(|model| model.provenance == Provenance::Own)
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<Arc<Model>> {
        locked(&self.all).values().cloned().collect()
    }

    /// Adds a model, or replaces the one of its name. On disk when this returns.
    ///
    /// # Errors
    /// The file system's.
    pub async fn put(&self, model: Model) -> io::Result<()> {
        let known = self.get(&model.name);
        if known.is_some_and(|known| is_noted(&known, &model)) {
            return Ok(());
        }
        let (path, content) = (self.file(&model.name), serde_json::to_vec(&model)?);
        blocking(move || write_whole(&path, &content)).await?;
        locked(&self.all).insert(model.name.clone(), Arc::new(model));
        Ok(())
    }

    /// A model as its file has it.
    ///
    /// # Errors
    /// When the file can't be read, or is none of a model.
    pub async fn on_disk(&self, name: &str) -> io::Result<Model> {
        let path = self.file(&name.to_ascii_lowercase());
        blocking(move || Ok(serde_json::from_slice(&fs::read(path)?)?)).await
    }

    /// Removes a model; one that isn't there is as good.
    ///
    /// # Errors
    /// The file system's.
    pub async fn remove(&self, name: &str) -> io::Result<()> {
        let name = name.to_ascii_lowercase();
        if locked(&self.all).remove(&name).is_none() {
            return Ok(());
        }
        let path = self.file(&name);
        blocking(move || fs::remove_file(path)).await
    }

    /// The file of a model.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{}.json", sha256(name.as_bytes()).hex()))
    }
}

/// Whether there is nothing to write: all is the same but for a use that needn't be noted.
fn is_noted(known: &Model, model: &Model) -> bool {
    let same = Model { used: known.used, ..model.clone() } == *known;
    same && model.used.duration_since(known.used).unsigned_abs() < NOTE_USE_EVERY
}
