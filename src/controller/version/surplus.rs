//! Since when versions are on nodes for nothing.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube_runtime::reflector::ObjectRef;
use tokio::time::Instant;

use crate::{api::ModelVersion, domain::registry::WITHDRAWN_AFTER};

/// The versions that no deployment keeps, and since when. A controller that starts anew waits anew.
#[derive(Default)]
pub struct Surplus(Mutex<HashMap<ObjectRef<ModelVersion>, Instant>>);

impl Surplus {
    /// In which time its alias may be taken from nodes; `None` while it stays.
    pub fn due_in(&self, version: &ModelVersion, is_surplus: bool) -> Option<Duration> {
        let object = ObjectRef::from_obj(version);
        if !is_surplus {
            self.forget(&object);
            return None;
        }
        let since = *self.locked().entry(object).or_insert_with(Instant::now);
        Some(WITHDRAWN_AFTER.saturating_sub(since.elapsed()))
    }

    /// The object is gone, or is kept.
    pub fn forget(&self, version: &ObjectRef<ModelVersion>) {
        self.locked().remove(version);
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<ObjectRef<ModelVersion>, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
