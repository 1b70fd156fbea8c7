//! When a table was last known to be what the Kubernetes API has.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

/// That moment; shared, never known at first.
#[derive(Clone, Debug, Default)]
pub struct Freshness(Arc<AtomicI64>);

impl Freshness {
    /// It was so at this moment; `None` changes nothing.
    pub fn confirmed_at(&self, moment: Option<Timestamp>) {
        if let Some(moment) = moment {
            self.0.store(moment.as_millisecond(), Ordering::Relaxed);
        }
    }

    /// How long ago that was at `now`; `None`: never.
    pub fn age(&self, now: Timestamp) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            moment => Some(Duration::from_millis(now.as_millisecond().saturating_sub(moment).try_into().unwrap_or(0))),
        }
    }
}
