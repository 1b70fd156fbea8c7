//! The data path, through HTTP, over fake nodes.

mod answers;
mod lines;
mod openai;
mod parameters;
mod places;
mod real;
mod retries;
mod split;
#[path = "../support/mod.rs"]
mod stack;
mod support;
mod tables;
