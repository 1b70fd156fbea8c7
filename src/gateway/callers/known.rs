//! The keys of a table, found by their hashes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::unauthorized;
use crate::{
    domain::{
        caller::{Allowance, ModelPatterns},
        digest::Digest,
    },
    gateway::failure::Failure,
    ports::KeyStats,
    routing_table::Key,
};

/// The first bytes of a hash.
type Start = [u8; 8];

/// The keys of one table.
#[derive(Default)]
pub struct KnownKeys(HashMap<Start, Vec<Entry>>);

struct Entry {
    hash: [u8; 32],
    known: Arc<Known>,
}

/// A key, and what this gateway remembers of it.
pub struct Known {
    key: Arc<Key>,
    name: Arc<str>,
    patterns: Option<ModelPatterns>,
    account: Arc<Account>,
}

/// What is remembered of a key from one table to the next.
struct Account {
    began: Instant,
    allowance: Mutex<Allowance>,
    /// In seconds since 1970; 0: never.
    last_used: AtomicI64,
}

impl KnownKeys {
    /// The keys of a new table, with what is remembered of them since `earlier`.
    pub fn new(keys: &BTreeMap<Digest, Arc<Key>>, earlier: &Self) -> Self {
        let mut known = Self::default();
        for (digest, key) in keys {
            let hash = digest.bytes();
            let before = earlier.entry(&hash);
            let entry = match before.filter(|known| known.key == *key) {
                Some(same) => Some(same.clone()),
                None => Known::new(key, before).map(Arc::new),
            };
            let entries = known.0.entry(start(&hash)).or_default();
            entries.extend(entry.map(|known| Entry { hash, known }));
        }
        known
    }

    /// What is known of a key, if anything is.
    pub fn find(&self, key: &str) -> Option<Arc<Known>> {
        if self.0.is_empty() {
            return None;
        }
        self.entry(&Sha256::digest(key).into()).cloned()
    }

    /// When each key was used, of those that were.
    pub fn stats(&self) -> Vec<KeyStats> {
        let used = self.0.values().flatten().filter_map(|Entry { known, .. }| {
            let last = known.account.last_used.load(Ordering::Relaxed);
            let last_used = Timestamp::from_second(last).ok().filter(|_| last > 0)?;
            Some(KeyStats { name: known.name.to_string(), last_used })
        });
        used.collect()
    }

    /// Looked up by the first bytes and compared as a whole, in a time that says nothing about how much of it fits.
    fn entry(&self, hash: &[u8; 32]) -> Option<&Arc<Known>> {
        let entries = self.0.get(&start(hash))?;
        entries.iter().find(|entry| entry.hash.ct_eq(hash).into()).map(|entry| &entry.known)
    }
}

fn start(hash: &[u8; 32]) -> Start {
    let mut start = Start::default();
    start.copy_from_slice(&hash[..size_of::<Start>()]);
    start
}

impl Known {
    /// A key with what is remembered of it from `before`; nothing when its patterns can't be read.
    fn new(key: &Arc<Key>, before: Option<&Arc<Self>>) -> Option<Self> {
        let account = || {
            let (allowance, last_used) = (Mutex::default(), AtomicI64::new(0));
            Arc::new(Account { began: Instant::now(), allowance, last_used })
        };
        Some(Self {
            key: key.clone(),
            name: key.name.as_str().into(),
            patterns: key.models.as_deref().map(ModelPatterns::new).transpose().ok()?,
            account: before.map_or_else(account, |before| before.account.clone()),
        })
    }

    /// Notes that it is used, if it still can be.
    pub(super) fn check(&self, now: Timestamp) -> Result<(), Failure> {
        let name = &self.name;
        if self.key.disabled {
            return Err(unauthorized(format!("the key {name} is disabled: ask whoever runs this gateway")));
        }
        if let Some(end) = self.key.expires_at.filter(|end| *end <= now) {
            return Err(unauthorized(format!("the key {name} could be used until {end}: ask for a new one")));
        }
        self.account.last_used.store(now.as_second(), Ordering::Relaxed);
        Ok(())
    }

    /// The object's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The object's spec as the table has it.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    pub(super) fn patterns(&self) -> Option<&ModelPatterns> {
        self.patterns.as_ref()
    }

    /// What is left of its limits, and the time now as that counts it.
    pub(super) fn allowance(&self) -> (MutexGuard<'_, Allowance>, Duration) {
        let allowance = self.account.allowance.lock().unwrap_or_else(PoisonError::into_inner);
        (allowance, self.account.began.elapsed())
    }
}
