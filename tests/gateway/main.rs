//! The data path, through HTTP, over fake nodes.

mod answers;
mod lines;
mod openai;
mod parameters;
mod places;
mod retries;
mod split;
mod support;
mod tables;
