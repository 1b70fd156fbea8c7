//! Runs command lines exactly as they are printed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::support::checkout;

/// A shell in the project's folder with the tour's settings, which a visitor gets by sourcing the same file.
pub struct Shell {
    env_file: PathBuf,
}

impl Shell {
    pub fn new(env_file: &Path, kubeconfig: &Path, folder: &Path) -> Result<Self, String> {
        let settings = format!(
            "export KUBECONFIG='{}'\nexport KUBECACHEDIR='{}'\nexport PATH='{}':\"$PATH\"\n",
            kubeconfig.display(),
            folder.join("kubectl-cache").display(),
            folder.join("bin").display(),
        );
        fs::write(env_file, settings).map_err(|error| format!("{}: {error}", env_file.display()))?;
        Ok(Self { env_file: env_file.to_owned() })
    }

    /// Prints the line, runs it, prints what it says and returns that.
    pub async fn run(&self, line: &str) -> Result<String, String> {
        println!("  $ {line}");
        let said = self.quietly(line).await?;
        said.lines().for_each(|line| println!("  {line}"));
        Ok(said)
    }

    async fn quietly(&self, line: &str) -> Result<String, String> {
        let mut command = Command::new("bash");
        command.arg("-c").arg(format!(". '{}'; {line}", self.env_file.display()));
        command.current_dir(checkout("")).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.map_err(|error| format!("bash: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            Ok(said)
        } else {
            let complaint = String::from_utf8_lossy(&output.stderr);
            Err(format!("{line}\n{said}{complaint}ended with {}", output.status))
        }
    }
}
