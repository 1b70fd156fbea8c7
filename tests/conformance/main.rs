//! One set of scenarios on the embedded API and on a real API server with etcd: every answer must be the same but for
//! what `docs/standalone.md` lists.

#[path = "../support/mod.rs"]
mod support;

mod backup;
mod controller;
mod disk;
mod documents;
mod durability;
mod export;
mod helm;
mod kills;
mod kubectl;
mod lists;
mod pages;
mod python;
mod random;
mod requests;
mod robustness;
mod sides;
