//! What must hold for every input: the domain, the settings and the routing table under random and hostile values.

mod backoff;
mod conditions;
mod labels;
mod names;
mod params;
mod patches;
mod pull;
mod rollout;
mod routing;
mod routing_table;
mod settings;
