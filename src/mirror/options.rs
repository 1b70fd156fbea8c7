//! What a mirror is told: its settings, with the files that they name read.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{
    push::keys::{self, PublicKey},
    upstream::Logins,
};
use crate::{
    domain::{model_name::ModelName, size::ByteSize, upstream::Upstreams},
    settings::Settings,
};

/// How a mirror works.
#[derive(Default)]
pub struct Options {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// The most bytes of blobs; 0: as many as fit.
    pub cache_size: ByteSize,
    /// Bytes per second from registries; 0: no limit.
    pub bandwidth: ByteSize,
    /// Whether anybody may pull public models by name.
    pub open: bool,
    /// Registries by prefix.
    pub upstreams: Upstreams,
    /// Logins at registries.
    pub logins: Logins,
    /// Certificates to trust besides the system's.
    pub roots: Vec<reqwest::Certificate>,
    /// What callers of `/drover/v1` must have.
    pub key: Option<String>,
    /// Keys of those who may push; without them everybody may, where only this machine reaches the mirror.
    pub push_keys: Option<BTreeSet<PublicKey>>,
    /// Models that are listed as available besides those that are found.
    pub offer: Vec<ModelName>,
    /// Whether only this machine reaches the mirror.
    pub is_local: bool,
}

impl Options {
    /// Those of the settings.
    ///
    /// # Errors
    /// Which setting is missing, or which file can't be used and why.
    pub fn read(settings: &Settings) -> Result<Self, String> {
        let Some(data_dir) = settings.data_dir.clone() else {
            return Err("data-dir is needed: name a folder on a disk with room for the models".into());
        };
        let logins = named("upstream-auth-file", &settings.upstream_auth_file, |text| Logins::read(&text))?;
        let roots = named("upstream-ca-file", &settings.upstream_ca_file, |text| {
            let roots = reqwest::Certificate::from_pem_bundle(text.as_bytes());
            let roots = roots.ok().filter(|roots| !roots.is_empty());
            roots.ok_or_else(|| "it holds no certificates in PEM form".to_owned())
        })?;
        let key = key(settings)?;
        let push_keys =
            named("mirror-push-keys-file", &settings.mirror_push_keys_file, |text| keys::read_public(&text))?;
        Ok(Self {
            data_dir,
            cache_size: settings.mirror_cache_size,
            bandwidth: settings.mirror_bandwidth,
            open: settings.mirror_open,
            upstreams: settings.upstream.clone(),
            logins: logins.unwrap_or_default(),
            roots: roots.unwrap_or_default(),
            key,
            push_keys,
            offer: settings.mirror_offer.clone(),
            is_local: false,
        })
    }
}

/// The key that the controller and the mirror share, if there is one.
///
/// # Errors
/// Why its file can't be used.
pub fn key(settings: &Settings) -> Result<Option<String>, String> {
    named("mirror-key-file", &settings.mirror_key_file, |text| match text.trim() {
        "" => Err("it is empty: put a random key into it".to_owned()),
        key => Ok(key.to_owned()),
    })
}

/// What the file of a setting holds, if the setting is set.
fn named<T>(
    setting: &str,
    path: &Option<PathBuf>,
    read: impl FnOnce(String) -> Result<T, String>,
) -> Result<Option<T>, String> {
    let read_file = |path: &Path| fs::read_to_string(path).map_err(|error| error.to_string()).and_then(read);
    let fault = |path: &Path, why: String| format!("{setting} {}: {why}", path.display());
    path.as_deref().map(|path| read_file(path).map_err(|why| fault(path, why))).transpose()
}
