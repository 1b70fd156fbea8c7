//! One set of scenarios on the embedded API and on a real API server with etcd: every answer must be the same but for
//! what `docs/standalone.md` lists.

#[path = "../support/mod.rs"]
mod support;

mod controller;
mod durability;
mod kubectl;
mod pages;
mod random;
mod requests;
mod sides;
