//! As in the program, but without the client.

#[path = "../../../src/ollama/lines.rs"]
pub mod lines;
