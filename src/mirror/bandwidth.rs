//! Limits how fast all fetches together take bytes from registries.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::locked;

/// A line of a certain width; cheap to clone.
#[derive(Clone)]
pub struct Bandwidth {
    bytes_per_second: u64,
    /// When the bytes that were let through so far are through.
    used_until: Arc<Mutex<Instant>>,
}

impl Bandwidth {
    /// So many bytes per second; 0 is no limit.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, used_until: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Waits until so many more bytes may come.
    pub async fn pass(&self, bytes: u64) {
        if self.bytes_per_second == 0 {
            return;
        }
        let turn = {
            let mut used_until = locked(&self.used_until);
            let turn = (*used_until).max(Instant::now());
            *used_until = turn + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
            *used_until
        };
        sleep_until(turn).await;
    }
}
