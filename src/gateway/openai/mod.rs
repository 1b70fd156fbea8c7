//! OpenAI's API in terms of Ollama's own, in both directions: pure.

pub mod chat;
pub mod completions;
pub mod embeddings;
mod events;
pub mod responses;
mod wishes;
