//! How commands reach a mirror.

use std::{fs, path::PathBuf};

use clap::Args;

use crate::mirror::client::MirrorClient;

/// Where a mirror is, and the key that it knows its people by.
#[derive(Args)]
pub struct AtMirror {
    /// URL of the mirror
    #[arg(long, env = "DROVER_MIRROR", value_name = "URL", default_value = "http://127.0.0.1:11437")]
    mirror: String,
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
        let url = reqwest::Url::parse(&self.mirror).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        if url.is_none_or(|url| url.host().is_none()) {
            return Err(format!("--mirror {}: write a URL such as http://mirror.example:11437", self.mirror));
        }
        let read = |path: &PathBuf| {
            let text = fs::read_to_string(path).map_err(|error| format!("--key-file {}: {error}", path.display()))?;
            Ok::<_, String>(text.trim().to_owned())
        };
        let key = self.key_file.as_ref().map(read).transpose()?;
        MirrorClient::new(&self.mirror, key).map_err(|error| error.to_string())
    }

    /// Whether the mirror's key was given.
    pub fn has_key(&self) -> bool {
        self.key_file.is_some()
    }
}
