//! Fake Ollama nodes that keep state, tables over them, and a gateway served on a port.
#![allow(dead_code)] // each module uses a part of it

pub mod collector;
pub mod declared;
pub mod node;
pub mod provider;
pub mod real;
pub mod world;

use std::{fmt::Debug, future::Future, panic::Location, time::Duration};

pub use node::{Act, FakeNode};
pub use world::{Answer, World, alias, canary, deployment, holder, key, plain, table, version, with_keys};

/// Waits until `observe` gives a value that is `wanted`; panics at the caller's line with what was seen last.
#[track_caller]
pub fn eventually<T: PartialEq + Debug>(wanted: T, mut observe: impl FnMut() -> T) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let seen = observe();
            if seen == wanted {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{caller}: still {seen:?}, not {wanted:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
