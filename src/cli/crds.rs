//! `drover crds`

use std::{fs, path::PathBuf};

use clap::Args;
use kube::ResourceExt;

use crate::api;

#[derive(Args)]
pub struct Crds {
    /// Write one file a kind into this folder instead, which is made where it is missing
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub fn run(command: &Crds) -> Result<(), String> {
    if let Some(dir) = &command.dir {
        fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    }
    for crd in api::crds() {
        let yaml = serde_yaml::to_string(&crd).map_err(|error| error.to_string())?;
        match &command.dir {
            Some(dir) => {
                let file = dir.join(format!("{}.yaml", crd.name_any()));
                fs::write(&file, yaml).map_err(|error| format!("{}: {error}", file.display()))?;
            }
            None => print!("---\n{yaml}"),
        }
    }
    Ok(())
}
