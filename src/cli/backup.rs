//! `drover backup` and `drover restore`

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::{tools::human, up::folder};
use crate::{
    backup::{self, Blobs, Index},
    data_dir::DataDir,
};

/// Which folder is meant.
#[derive(Args)]
pub struct AtDataDir {
    /// Folder of the instance [default: drover in $XDG_DATA_HOME or ~/.local/share]
    #[arg(long, env = "DROVER_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl AtDataDir {
    fn find(&self) -> Result<DataDir, String> {
        folder(self.data_dir.as_deref())
    }
}

#[derive(Args)]
pub struct Backup {
    /// File to write; it holds keys, passwords and prompts, and only you can read it
    file: PathBuf,
    #[command(flatten)]
    at: AtDataDir,
    /// Which bytes of models to take along from the mirror
    #[arg(long, value_enum, default_value_t)]
    blobs: Blobs,
}

#[derive(Args)]
pub struct Restore {
    /// File that `drover backup` wrote
    file: PathBuf,
    #[command(flatten)]
    at: AtDataDir,
    /// Replace the state that is there
    #[arg(long)]
    force: bool,
}

/// Writes a backup, and says what is in it.
pub async fn run(command: Backup) -> Result<(), String> {
    let dir = command.at.find()?;
    let index = backup::create(&dir, &command.file, command.blobs, Timestamp::now()).await?;
    let size = human(index.files.iter().map(|file| file.size).sum());
    println!("{} is in {}: {} files, {size}", dir.path().display(), command.file.display(), index.files.len());
    print_missing(&index, "--blobs own takes them along");
    Ok(())
}

/// Restores one, and says what there is then.
pub async fn restore(command: Restore) -> Result<(), String> {
    let dir = command.at.find()?;
    let restored = backup::restore(&dir, &command.file, command.force, Timestamp::now()).await?;
    let (index, objects) = (&restored.index, restored.contents.objects);
    println!("{} is what it was at {}: {objects} objects", dir.path().display(), index.created);
    print_missing(index, "push those again that the mirror doesn't have any more");
    Ok(())
}

fn print_missing(index: &Index, advice: &str) {
    if index.missing.is_empty() {
        return;
    }
    let names: Vec<_> = index.missing.iter().map(|model| format!("{} ({})", model.name, human(model.size))).collect();
    println!("Not in the backup: the bytes of models that only the mirror has: {}; {advice}", names.join(", "));
}
