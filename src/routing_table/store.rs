//! The table on disk.

use std::{fs, io, path::Path};

use jiff::Timestamp;

use super::RoutingTable;

/// Writes the table beside its final place and moves it there, so that a reader never sees half of one.
///
/// # Errors
/// Whatever the file system says.
pub fn save(path: &Path, table: &RoutingTable) -> io::Result<()> {
    let draft = path.with_extension("tmp");
    fs::write(&draft, serde_json::to_vec(table)?)?;
    fs::rename(draft, path)
}

/// The table last saved, with stable versions only: a canary may have been taken back since. `None` when there is
/// none yet.
///
/// # Errors
/// Whatever the file system says, and `InvalidData` for a file that is not a table.
pub fn load(path: &Path) -> io::Result<Option<RoutingTable>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice::<RoutingTable>(&bytes)?.without_canaries())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// When the table was last saved, which is when it last changed; `None` when the file system doesn't tell.
pub fn saved_at(path: &Path) -> Option<Timestamp> {
    fs::metadata(path).ok()?.modified().ok()?.try_into().ok()
}
