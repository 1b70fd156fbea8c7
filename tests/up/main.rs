//! `drover up`, as a person runs it: real Ollama nodes, real kubectl, one folder.

mod fleet;
mod instance;
mod keys;
mod manifests;
mod operations;
mod routing;
mod starts;
#[path = "../support/mod.rs"]
mod support;
