//! Every decision Drover takes, as pure functions: no I/O, no clock, no randomness.
//!
//! Time comes in as an argument (`jiff::Timestamp` is used as a value only), observations come in as plain
//! structs, and what comes out is data: a new state, a status, a choice with its reason. The folders around this
//! one observe the world, call a function here, and carry out what it says.

pub mod alias;
pub mod analysis;
pub mod backoff;
pub mod caller;
pub mod conditions;
pub mod digest;
pub mod directory;
pub mod duration;
pub mod gguf;
pub mod health;
pub mod http;
pub mod keep_alive;
pub mod labels;
pub mod manifest;
pub mod model_db;
pub mod model_name;
pub mod modelfile;
pub mod named_nodes;
pub mod node;
pub mod operations;
pub mod pace;
pub mod params;
pub mod provider;
pub mod pull;
pub mod ranges;
pub mod reference;
pub mod registry;
pub mod rollout;
pub mod routing;
pub mod run_id;
pub mod run_record;
pub mod size;
pub mod upstream;
pub mod url;
pub mod version;
pub mod wait;
