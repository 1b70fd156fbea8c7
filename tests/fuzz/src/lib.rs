//! The sources under test, and what must hold for them.
#![allow(dead_code)] // only a part of the sources is called

extern crate self as drover;

#[path = "../bodies.rs"]
pub mod bodies;
#[path = "../../../src/domain/mod.rs"]
pub mod domain;
pub mod gateway;
pub mod ollama;
#[path = "../../../src/ports/mod.rs"]
pub mod ports;
pub mod providers;
pub mod standalone;
