//! Drover runs fleets of Ollama nodes the way Kubernetes runs pods: see `docs/architecture.md`.

#![deny(clippy::disallowed_methods, clippy::expect_used, clippy::panic, clippy::unreachable, clippy::unwrap_used)]

pub mod api;
pub mod backup;
pub mod cli;
pub mod cluster;
pub mod controller;
pub mod data_dir;
pub mod domain;
pub mod export;
pub mod gateway;
pub mod health;
pub mod manifests;
pub mod mirror;
pub mod ollama;
pub mod ports;
pub mod prometheus;
pub mod providers;
pub mod records;
pub mod routing_table;
pub mod settings;
pub mod standalone;
pub mod supervisor;
pub mod telemetry;
