//! What must hold for every input: the domain, the settings and the routing table under random and hostile values.

mod backoff;
mod conditions;
mod http;
mod index;
mod labels;
mod manifest;
mod names;
mod params;
mod pull;
mod pull_queue;
mod ranges;
mod rollout;
mod routing;
mod routing_table;
mod settings;
mod size;
mod upstream;
