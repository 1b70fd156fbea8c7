//! OpenAI's chat completions in terms of Ollama's own chat, in both directions: pure.

pub mod answer;
pub mod messages;
pub mod request;
mod said;
