//! What was written last of each object, so that nothing is decided, and written again, on an older view of it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube_runtime::reflector::ObjectRef;
use tokio::time::Instant;

use crate::cluster::Kind;

/// A view that is behind for longer than this is acted on all the same: the API may have been set back.
const LONGEST_LAG: Duration = Duration::from_secs(10);

/// The last write of each object.
pub struct Written<K: Kind>(Mutex<HashMap<ObjectRef<K>, Write>>);

struct Write {
    at: Instant,
    version: Option<u64>,
}

impl<K: Kind> Default for Written<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Kind> Written<K> {
    /// A write gave the object this version.
    pub fn note(&self, object: ObjectRef<K>, version: Option<&str>) {
        self.locked().insert(object, Write { at: Instant::now(), version: number(version) });
    }

    /// How long ago the last write was; for ever without one.
    pub fn since(&self, object: &ObjectRef<K>) -> Duration {
        self.locked().get(object).map_or(Duration::MAX, |write| write.at.elapsed())
    }

    /// Whether this is the object from before the last write. The watch brings the newer one soon.
    pub fn is_behind(&self, object: &K) -> bool {
        let seen = number(object.meta().resource_version.as_deref());
        self.locked()
            .get(&ObjectRef::from_obj(object))
            .is_some_and(|write| seen < write.version && write.at.elapsed() < LONGEST_LAG)
    }

    /// The object is gone.
    pub fn forget(&self, object: &ObjectRef<K>) {
        self.locked().remove(object);
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<ObjectRef<K>, Write>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Versions of one object are ordered, as numbers.
fn number(version: Option<&str>) -> Option<u64> {
    version?.parse().ok()
}
