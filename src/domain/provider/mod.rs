//! Providers: servers of others that answer for a fleet. Which ones are known, where their keys come from, what can be
//! said to them, and what that costs.

mod catalogue;
mod endpoint;
mod fault;
mod found;
mod offer;
mod options;

pub use catalogue::{CATALOGUE, Known, known_as, known_at};
pub use endpoint::{Endpoint, KeySource, Origin, Protocol, node_name, origin, provider_of, tag};
pub use fault::{NO_KEY, ProviderFault};
pub use found::{Changes, Present, changes};
pub use offer::{Cost, Offer, Price};
pub use options::{counterpart, has_counterpart};
