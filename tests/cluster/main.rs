//! Scenarios on real parts: Ollama nodes, an OCI registry, kubectl, and each on two APIs: a Kubernetes API server with
//! etcd, and the embedded one (`cargo test --test cluster embedded`). Only `chart` is for the first one alone: RBAC,
//! ServiceAccounts and Deployments, which it is about, the embedded API does not have.

#[path = "../support/mod.rs"]
mod support;

mod analysis;
mod bot;
mod chains;
mod chart;
mod faults;
mod fleet;
mod health;
mod keys;
mod latency;
mod many;
mod mirror;
mod namespace;
mod nodes;
mod operations;
mod process;
mod providers;
mod pulls;
mod registry;
mod resumes;
mod rollout;
mod routing;
mod runners;
mod safety;
mod specs;
mod steering;
mod terminal;
mod versions;
mod world;

/// Not a test: what the process of the embedded API runs.
#[test]
#[ignore = "answers until it is killed"]
fn the_embedded_api() {
    world::run(support::kube_api::embedded::serve());
}
