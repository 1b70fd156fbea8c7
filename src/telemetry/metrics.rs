//! Metrics in OpenMetrics' text form. Their labels never hold a prompt, a key or a caller's name.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::{encoding::text, metrics::info::Info, registry::Registry};

use super::process::Process;

/// What `/metrics` shows; cheap to clone. Each part of the program registers its own once, and keeps handles to them.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registries>>);

struct Registries {
    /// Of names that others have agreed upon.
    conventions: Registry,
    /// Of the rest.
    own: Registry,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("drover");
        registry.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register_collector(Box::new(Process));
        Self(Arc::new(Mutex::new(Registries { conventions: Registry::default(), own: registry })))
    }
}

impl Metrics {
    /// Adds metrics; every name gets `drover_` before it.
    pub fn register<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        add(&mut self.lock().own)
    }

    /// The same, also for metrics whose names others have agreed upon: the first registry leaves them as they are.
    pub fn register_conventional<T>(&self, add: impl FnOnce(&mut Registry, &mut Registry) -> T) -> T {
        let Registries { conventions, own } = &mut *self.lock();
        add(conventions, own)
    }

    /// Everything as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registries = self.lock();
        let all = [&registries.own, &registries.conventions];
        // Fails only when a String can't be written to, which is never.
        let _ = all.into_iter().try_for_each(|registry| text::encode_registry(&mut text, registry));
        let _ = text::encode_eof(&mut text);
        text
    }

    fn lock(&self) -> MutexGuard<'_, Registries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
