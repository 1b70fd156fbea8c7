//! The registry: a model's versions, where each one comes from, where it is in its life, and how all of that is written
//! down and brought back.

mod book;
mod document;
mod drift;
mod lineage;
mod snapshots;
mod stage;
mod window;

pub use book::{Book, FORMAT, ModelRecord, VersionRecord};
pub use document::{Fate, Present, fate};
pub use drift::{Drift, drifted};
pub use lineage::{LineageFault, Parents, ancestors, check};
pub use snapshots::{SNAPSHOTS, Snapshot, Snapshots};
pub use stage::{Lifecycle, Stage, moves, only_embeds, stage};
pub use window::{Candidate, Keeping, WITHDRAWN_AFTER, is_kept};
