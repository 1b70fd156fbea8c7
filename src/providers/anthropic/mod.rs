//! Anthropic's Messages API: Ollama's requests in its words, its answers in Ollama's.

mod answer;
mod request;
mod stream;

pub use answer::whole;
pub use request::messages;
pub use stream::Stream;
