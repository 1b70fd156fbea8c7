//! The data path, through HTTP, over fake nodes.

mod abuse;
mod answers;
mod anthropic;
mod callers;
mod clients;
mod explain;
mod https;
mod lines;
mod lists;
mod metrics;
mod openai;
mod parameters;
#[path = "../support/mod.rs"]
mod parts;
mod places;
mod providers;
mod real;
mod records;
mod responses;
mod retries;
mod routing;
mod runners;
mod schema;
mod shadow;
mod soak;
mod split;
mod support;
mod tables;
mod traces;
