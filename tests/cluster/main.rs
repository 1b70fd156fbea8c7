//! Scenarios on real parts: a Kubernetes API server with etcd, Ollama nodes, an OCI registry, kubectl and helm.

#[path = "../support/mod.rs"]
mod support;

mod chart;
mod faults;
mod fleet;
mod health;
mod mirror;
mod nodes;
mod process;
mod pulls;
mod rollout;
mod specs;
mod versions;
mod world;
