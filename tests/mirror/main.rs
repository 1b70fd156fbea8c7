//! The mirror: a real `drover mirror` between registries and real Ollama nodes.

mod access;
mod blobs;
mod cache;
mod fake;
mod faults;
mod grants;
#[path = "../support/mod.rs"]
mod parts;
mod pulls;
mod push;
mod support;
mod tools;
mod upstreams;
