//! Starts, steers and observes the real parts that Drover works with: a Kubernetes API server, Ollama nodes and an
//! OCI registry. Nothing in here imitates a part; what a part cannot do by itself (a slow or failing line) is done
//! by a proxy in front of it.
//!
//! Every server listens on 127.0.0.1, logs into a file of the folder given to it and ends with the value that
//! started it, or with the test process, however that ends.
#![allow(dead_code, unused_imports)] // each test binary includes this module and uses a part of it

mod checkout;
pub mod disk;
pub mod drover;
pub mod gguf;
pub mod kube_api;
pub mod line;
pub mod models;
pub mod network;
pub mod node_front;
pub mod ollama;
pub mod postgres;
pub mod process;
pub mod registry;
pub mod stack;
pub mod traffic;

pub use checkout::checkout;

use std::fmt::Display;
use std::future::Future;
use std::net::TcpListener;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, header};
use tempfile::TempDir;

/// Asks `observe` again and again until it gives `Ok`. Panics after `within`, at the caller's line, with what
/// was observed last.
#[track_caller]
pub fn eventually<T, E: Display>(
    what: &str,
    within: Duration,
    mut observe: impl AsyncFnMut() -> Result<T, E>,
) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let start = Instant::now();
        loop {
            match observe().await {
                Ok(value) => return value,
                Err(last) if start.elapsed() > within => {
                    panic!("{caller}: not within {within:?}: {what}; last observed: {last}")
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

/// A port on 127.0.0.1 that nothing listens on. It lies below the range from which the kernel gives ports to
/// outgoing connections, so it stays free while the server that uses it is down.
pub fn free_port() -> u16 {
    const RANGE: std::ops::Range<u16> = 10_000..32_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let length = RANGE.end - RANGE.start;
    let start = (std::process::id().wrapping_mul(7919) % u32::from(length)) as u16; // elsewhere than other test binaries
    (0..length)
        .map(|_| RANGE.start + (start + NEXT.fetch_add(1, Ordering::Relaxed) % length) % length)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port between 10000 and 32000")
}

/// A temporary folder for data and logs, which is kept and named when the test fails. Declare it first in a test:
/// what uses the folder must be dropped before it.
pub struct Scratch(Option<TempDir>);

impl Scratch {
    pub fn new() -> Self {
        Self(Some(tempfile::tempdir().expect("a temporary folder")))
    }

    pub fn path(&self) -> &Path {
        self.0.as_ref().expect("there until it is dropped").path()
    }

    /// The path of a file or folder in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let folder = self.0.take().expect("there until it is dropped");
        if std::thread::panicking() {
            eprintln!("logs and data of the failed test: {}", folder.keep().display());
        }
    }
}

/// An HTTP client that talks to this machine only: no proxy, no redirects, no limit on how long an answer takes.
pub fn http_client() -> reqwest::Client {
    http_client_builder().build().expect("an HTTP client")
}

/// Headers without those that are about one connection only: what a proxy passes on.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
    headers
}

fn http_client_builder() -> reqwest::ClientBuilder {
    install_crypto();
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none())
}

/// What TLS is made with.
fn install_crypto() {
    // A second call finds the provider set already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
