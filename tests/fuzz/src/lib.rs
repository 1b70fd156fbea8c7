//! The sources under test, and what must hold for them.
#![allow(dead_code)] // only a part of the sources is called

extern crate self as drover;

#[path = "../bodies.rs"]
pub mod bodies;
#[path = "../../../src/domain/mod.rs"]
pub mod domain;
#[path = "../../../src/ports.rs"]
pub mod ports;

/// As in the program, but without the client.
pub mod ollama {
    #[path = "../../../../../src/ollama/lines.rs"]
    pub mod lines;
}
