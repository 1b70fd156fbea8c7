//! Metrics in OpenMetrics' text form. Their labels never hold a prompt, a key or a caller's name.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::{encoding::text, metrics::info::Info, registry::Registry};

use super::process::Process;

/// What `/metrics` shows; cheap to clone. Each part of the program registers its own once, and keeps handles to them.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("drover");
        registry.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register_collector(Box::new(Process));
        Self(Arc::new(Mutex::new(registry)))
    }
}

impl Metrics {
    /// Adds metrics; every name gets `drover_` before it.
    pub fn register<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        add(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Fails only when a String can't be written to, which is never.
        let _ = text::encode(&mut text, &self.0.lock().unwrap_or_else(PoisonError::into_inner));
        text
    }
}
