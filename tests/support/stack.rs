//! Where the programs are that `make stack` provides.

use std::path::{Path, PathBuf};

/// The program of this name from the stack.
pub fn program(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| panic!("{} is missing: run `make stack`", bin_folder().join(name).display()))
}

/// The same, if it was provided.
pub fn find(name: &str) -> Option<PathBuf> {
    Some(bin_folder().join(name)).filter(|path| path.exists())
}

fn bin_folder() -> PathBuf {
    match std::env::var_os("DROVER_STACK_BIN") {
        Some(folder) => folder.into(),
        None => from_env_file(&cache_folder().join("stack/env")),
    }
}

fn from_env_file(file: &Path) -> PathBuf {
    let text =
        std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}: run `make stack`", file.display()));
    let folder = text.trim().strip_prefix("export DROVER_STACK_BIN=");
    folder.unwrap_or_else(|| panic!("{} is damaged: run `make stack`", file.display())).into()
}

/// Where `make` keeps what it builds.
pub fn cache_folder() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).expect("HOME is set");
    cache.join("drover")
}
