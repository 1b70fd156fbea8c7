//! Anthropic's Messages API in terms of Ollama's own chat, in both directions: pure.

pub mod answer;
pub mod messages;
pub mod request;
