//! `ready.json`: where a running `drover up` listens.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    data_dir::{DataDir, remove_if_there},
    standalone::write_private,
};

/// Where everything is; the URLs are without a slash at their ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// URL of the Kubernetes API.
    pub api: String,
    /// A kubeconfig for it.
    pub kubeconfig: PathBuf,
    /// URL of the gateway.
    pub gateway: String,
    /// URL of the cockpit, once there is one.
    pub cockpit: Option<String>,
    /// URL of the mirror.
    pub mirror: String,
    /// URL of the health port.
    pub health: String,
}

/// The file, until this is dropped.
pub struct Shown(PathBuf);

impl Ready {
    /// Writes the file: from now on everything answers.
    ///
    /// # Errors
    /// Why it can't be written.
    pub fn show(&self, dir: &DataDir) -> Result<Shown, String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())? + "\n";
        write_private(&dir.ready(), &text)?;
        Ok(Shown(dir.ready()))
    }

    /// What an instance wrote into the folder that runs, or was killed.
    pub fn read(dir: &DataDir) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.ready()).ok()?).ok()
    }
}

/// Removes what an earlier process left that was killed.
///
/// # Errors
/// Why it can't be removed.
pub fn remove_leftover(dir: &DataDir) -> Result<(), String> {
    remove(&dir.ready())
}

fn remove(file: &Path) -> Result<(), String> {
    remove_if_there(file).map_err(|error| format!("{}: {error}", file.display()))
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            tracing::warn!("{error}");
        }
    }
}
