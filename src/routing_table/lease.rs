//! How long canaries get requests without proof that the table follows the Kubernetes API: a lease. A canary may have
//! been taken back meanwhile.
//!
//! A watch that is silent proves nothing: there may be nothing to tell, or its connection may be dead without a word.
//! So the API is asked which deployments there are, and the lease is renewed once the watch has brought all of that.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// How often the API is asked, at least so many times within a lease, and at least this often.
const BEATS: u32 = 6;
const LONGEST_BEAT: Duration = Duration::from_secs(10);

/// Resource versions by namespace and name.
pub type Versions = HashMap<(String, String), u64>;

/// What the API had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// The version of the whole.
    pub version: u64,
    /// Every object.
    pub objects: Versions,
}

impl Sight {
    /// Whether a store has all of this, or what came after it.
    pub fn is_in(&self, stored: &Versions) -> bool {
        let has = |(key, version): (&_, &u64)| stored.get(key).is_some_and(|stored| stored >= version);
        let is_gone = |(key, version): (&_, &u64)| *version <= self.version && !self.objects.contains_key(key);
        self.objects.iter().all(has) && !stored.iter().any(is_gone)
    }
}

/// The lease of one gateway. There is none until the first proof.
#[derive(Debug)]
pub struct Lease {
    length: Duration,
    renewed: Option<Instant>,
    awaited: Option<(Instant, Sight)>,
}

impl Lease {
    /// One that lasts so long after each proof.
    pub fn new(length: Duration) -> Self {
        Self { length, renewed: None, awaited: None }
    }

    /// How often the API is to be asked.
    pub fn beat(&self) -> Duration {
        (self.length / BEATS).min(LONGEST_BEAT)
    }

    /// The API, asked at `asked`, had this. Returns whether the store still lacks what the API had one beat ago: its
    /// watch lags, or is dead.
    pub fn expect(&mut self, asked: Instant, sight: Sight) -> bool {
        self.awaited.replace((asked, sight)).is_some()
    }

    /// Whether something is awaited that [`Self::renew`] could find.
    pub fn is_awaiting(&self) -> bool {
        self.awaited.is_some()
    }

    /// Renews the lease if the store has what the API had, from when that was asked; whether it has.
    pub fn renew(&mut self, stored: &Versions) -> bool {
        let Some((asked, _)) = self.awaited.take_if(|(_, sight)| sight.is_in(stored)) else { return false };
        self.renewed = Some(asked);
        true
    }

    /// When it ends, or ended; `None` before the first proof.
    pub fn ends(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + self.length)
    }

    /// Whether canaries get requests at `now`.
    pub fn holds(&self, now: Instant) -> bool {
        self.ends().is_some_and(|end| now < end)
    }
}
