//! The data path, through HTTP, over fake nodes.

mod answers;
mod support;
