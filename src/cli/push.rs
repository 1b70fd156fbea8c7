//! `drover push`

use std::{env, path::PathBuf};

use clap::Args;

use super::client::AtMirror;
use crate::mirror::publish::{self, Registry};

const OLLAMA_KEY: &str = ".ollama/id_ed25519";

/// What to push where.
#[derive(Args)]
pub struct Push {
    /// A GGUF file, or a Modelfile
    #[arg(value_name = "FILE.gguf|Modelfile")]
    file: PathBuf,
    /// The model's name
    #[arg(value_name = "NAME:TAG")]
    name: String,
    /// A GGUF file with an adapter; may be given several times
    #[arg(long, value_name = "FILE")]
    adapter: Vec<PathBuf>,
    #[command(flatten)]
    mirror: AtMirror,
    /// Ed25519 key to log in with where the mirror asks for it [default: ~/.ollama/id_ed25519]
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    ssh_key: Option<PathBuf>,
}

/// Pushes it, and prints name and digest.
pub async fn run(command: Push) -> Result<(), String> {
    let Push { file, name, adapter, mirror, ssh_key } = command;
    let standard = env::home_dir().map(|home| home.join(OLLAMA_KEY)).filter(|path| path.is_file());
    let key = match ssh_key {
        Some(path) => Some(publish::key_pair(&path)?),
        // Most mirrors don't ask for it, so one that can't be used is no fault yet.
        None => standard.filter(|_| !mirror.has_key()).and_then(|path| publish::key_pair(&path).ok()),
    };
    let registry = Registry::new(mirror.client()?, key);
    let say = |line: &str| eprintln!("{line}");
    let pushed = publish::publish(&registry, &publish::Push { file, adapters: adapter, name }, &say).await?;
    println!("{}  {}", pushed.name, pushed.digest);
    Ok(())
}
