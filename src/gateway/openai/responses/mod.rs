//! Responses in terms of Ollama's own chat: the stateless part, in which every request brings all that was said.

pub mod answer;
pub mod echo;
pub mod input;
pub mod request;
