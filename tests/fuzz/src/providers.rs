//! As in the program, but only the pure part: what translates between APIs.

#[path = "../../../src/providers/anthropic/mod.rs"]
pub mod anthropic;
#[path = "../../../src/providers/image.rs"]
mod image;
#[path = "../../../src/providers/native.rs"]
pub mod native;
#[path = "../../../src/providers/openai/mod.rs"]
pub mod openai;
#[path = "../../../src/providers/sse.rs"]
pub mod sse;
