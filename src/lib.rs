//! Drover runs fleets of Ollama nodes the way Kubernetes runs pods: see `docs/architecture.md`.

pub mod api;
pub mod domain;
pub mod gateway;
pub mod ports;
pub mod routing_table;
