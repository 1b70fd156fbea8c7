//! The sources that a test is about.

use std::path::PathBuf;

/// A file or folder of the checkout that the test runs in, by its path there. Not the one that it was built in: two
/// checkouts that share a folder for what is built may run one another's test programs.
pub fn checkout(path: &str) -> PathBuf {
    // Cargo names it; `make`, which starts some programs itself, does so in the checkout.
    let root = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| ".".into(), PathBuf::from);
    root.join(path)
}
