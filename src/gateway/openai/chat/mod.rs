//! Chat completions in terms of Ollama's own chat.

pub mod answer;
pub mod messages;
pub mod request;
