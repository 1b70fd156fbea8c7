//! Turns for what many want to do at the same moment, one after another.

use std::{collections::HashMap, hash::Hash, time::Duration};

/// Gives each who asks a turn of its own. Times are since any fixed moment.
#[derive(Debug)]
pub struct Pace<K> {
    every: Duration,
    next: Duration,
    turns: HashMap<K, Duration>,
}

impl<K: Eq + Hash + Clone> Pace<K> {
    /// One turn every so often.
    pub fn new(every: Duration) -> Self {
        Self { every, next: Duration::ZERO, turns: HashMap::new() }
    }

    /// How long `key` still has to wait for its turn; `None`: it has come, and is used up.
    pub fn wait(&mut self, key: &K, now: Duration) -> Option<Duration> {
        let turn = *self.turns.entry(key.clone()).or_insert_with(|| {
            let turn = self.next.max(now);
            self.next = turn + self.every;
            turn
        });
        if turn <= now {
            self.turns.remove(key);
            return None;
        }
        Some(turn - now)
    }

    /// Whoever it is wants no turn any more.
    pub fn forget(&mut self, key: &K) {
        self.turns.remove(key);
    }
}
