//! The four ways to change an object, as pure functions on values.

pub mod apply;
pub mod fields;
mod json;
mod last_applied;
mod managed;
mod merge;
mod strategic;

pub use json::json_patch;
pub use managed::{Manager, Managers};
pub use merge::merge_patch;
pub use strategic::strategic_merge;
