//! Backups of an instance's folder: one tar file with the databases as they were at one moment, the API's identity, the
//! mirror's key and its own models; and how such a file becomes a folder again.
//!
//! The last file of an archive, `index.json`, has the sha256 of each other one: an archive without it was cut off.

mod archive;
mod create;
mod restore;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use create::{Blobs, create};
pub use restore::{Restored, restore};

/// What this program writes, and the newest that it can read.
const FORMAT: u32 = 1;
const INDEX_FILE: &str = "index.json";
/// The folder of the mirror in an archive.
const MIRROR: &str = "mirror";

/// What is in an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// How the archive is to be read.
    pub format: u32,
    /// The program that wrote it.
    pub version: String,
    /// When it was begun.
    pub created: Timestamp,
    /// Its files.
    pub files: Vec<Member>,
    /// The models that were on the mirror only and whose bytes are not in it.
    pub missing: Vec<Missing>,
}

/// A file of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where it belongs, from the folder on.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// Their digest, in hexadecimal digits.
    pub sha256: String,
}

/// A model of which an archive has the manifest only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Its name.
    pub name: String,
    /// How many bytes it has.
    pub size: u64,
}
