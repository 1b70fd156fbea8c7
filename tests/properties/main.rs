//! What must hold for every input: the domain, the settings and the routing table under random and hostile values.

mod analysis;
mod authors;
mod backlog;
mod backoff;
mod caller;
mod conditions;
mod directory;
mod export;
mod foreign;
#[path = "../fuzz/bodies.rs"]
mod fuzz;
mod gitops;
mod health;
mod http;
mod index;
mod labels;
mod lease;
mod manifest;
mod manifests;
mod model_db;
mod named_nodes;
mod names;
mod operations;
mod pace;
mod params;
mod patches;
mod providers;
mod pull;
mod pull_queue;
mod ranges;
mod records;
mod registry;
mod rollout;
mod room;
mod routing;
mod routing_table;
mod run_ids;
mod runners;
#[path = "../../benches/sessions.rs"]
mod sessions;
mod settings;
mod size;
mod storage;
mod upstream;
