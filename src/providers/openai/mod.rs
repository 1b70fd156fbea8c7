//! OpenAI's API: Ollama's requests in its words, its answers in Ollama's.

mod answer;
mod embed;
mod request;
mod stream;

pub use answer::{call, whole, words};
pub use embed::{embed, embedded};
pub use request::{chat, put_options};
pub use stream::Stream;
