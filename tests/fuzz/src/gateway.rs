//! As in the program, but only the pure part: what translates between APIs.

#[path = "../../../src/gateway/anthropic/mod.rs"]
pub mod anthropic;
#[path = "../../../src/gateway/api.rs"]
pub mod api;
#[path = "../../../src/gateway/fields.rs"]
pub mod fields;
#[path = "../../../src/gateway/format.rs"]
pub mod format;
#[path = "../../../src/gateway/lines.rs"]
pub mod lines;
#[path = "../../../src/gateway/native.rs"]
mod native;
#[path = "../../../src/gateway/openai/mod.rs"]
pub mod openai;
#[path = "../../../src/gateway/parameters.rs"]
pub mod parameters;
#[path = "../../../src/gateway/said.rs"]
pub mod said;
#[path = "../../../src/gateway/sse.rs"]
mod sse;
#[path = "../../../src/gateway/task.rs"]
pub mod task;
