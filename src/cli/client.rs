//! How commands reach the Kubernetes API and a mirror.

use std::{env, fs, path::PathBuf};

use clap::Args;

use super::up::{self, Ready};
use crate::{
    cluster::{self, Client},
    mirror::client::MirrorClient,
};

const USUAL_MIRROR: &str = "http://127.0.0.1:11437";

/// Connects as the kubeconfig or the pod's service account says; without either, to the `drover up` of this machine.
///
/// # Errors
/// Why it can't.
pub async fn connect() -> Result<Client, String> {
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let usual = env::home_dir().is_some_and(|home| home.join(".kube/config").exists());
    match up::running() {
        Some((_, ready)) if !(is_set("KUBECONFIG") || is_set("KUBERNETES_SERVICE_HOST") || usual) => {
            cluster::connect_as(&ready.kubeconfig).await
        }
        _ => cluster::connect().await,
    }
}

/// Where a mirror is, and the key that it knows its people by.
#[derive(Args)]
pub struct AtMirror {
    /// URL of the mirror; without one, that of this machine's `drover up`, else http://127.0.0.1:11437
    #[arg(long, env = "DROVER_MIRROR", value_name = "URL")]
    mirror: Option<String>,
    /// File with the mirror's key
    #[arg(long, env = "DROVER_MIRROR_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl AtMirror {
    /// A client to it.
    ///
    /// # Errors
    /// When the URL or the key can't be used.
    pub fn client(&self) -> Result<MirrorClient, String> {
        let (url, key_file) = self.named();
        let parsed = reqwest::Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        if parsed.is_none_or(|url| url.host().is_none()) {
            return Err(format!("--mirror {url}: write a URL such as http://mirror.example:11437"));
        }
        let read = |path: &PathBuf| {
            let text = fs::read_to_string(path).map_err(|error| format!("--key-file {}: {error}", path.display()))?;
            Ok::<_, String>(text.trim().to_owned())
        };
        let key = key_file.as_ref().map(read).transpose()?;
        MirrorClient::new(&url, key).map_err(|error| error.to_string())
    }

    /// Whether the mirror's key is known.
    pub fn has_key(&self) -> bool {
        self.named().1.is_some()
    }

    /// The URL, and the file with the key.
    fn named(&self) -> (String, Option<PathBuf>) {
        let own = self.key_file.clone();
        match (&self.mirror, up::running()) {
            (Some(url), _) => (url.clone(), own),
            (None, Some((dir, Ready { mirror, .. }))) => {
                (mirror, own.or_else(|| Some(dir.mirror_key()).filter(|file| file.exists())))
            }
            (None, None) => (USUAL_MIRROR.into(), own),
        }
    }
}
