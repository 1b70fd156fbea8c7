//! What the mirror counts, for `/metrics` and `/drover/v1/stats`.

use std::collections::BTreeMap;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Unit,
};
use serde::{Deserialize, Serialize};

use crate::{domain::pull::Fault, telemetry::Metrics};

/// How much of what a request asked for was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// All of the blob.
    Hit,
    /// The blob is being fetched already.
    Joined,
    /// Nothing yet.
    Miss,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByShare {
    result: &'static str,
}

impl From<Share> for ByShare {
    fn from(share: Share) -> Self {
        let result = match share {
            Share::Hit => "hit",
            Share::Joined => "joined",
            Share::Miss => "miss",
        };
        Self { result }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

/// The counters; cheap to clone.
#[derive(Clone, Default)]
pub struct Meters {
    bytes_in: Counter,
    bytes_out: Counter,
    requests: Family<ByShare, Counter>,
    fetches: Gauge,
    errors: Family<ByReason, Counter>,
    cached: Gauge,
    evictions: Counter,
    corrupt: Counter,
}

/// The same numbers, since the start of the mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MirrorStats {
    /// Bytes of blobs from registries.
    pub bytes_in: u64,
    /// Bytes of blobs to nodes.
    pub bytes_out: u64,
    /// Requests for blobs that were complete.
    pub hits: u64,
    /// Requests for blobs that were being fetched.
    pub joined: u64,
    /// Requests for blobs of which nothing was there.
    pub misses: u64,
    /// Fetches under way.
    pub fetches: i64,
    /// Failures of registries by reason.
    pub upstream_errors: BTreeMap<String, u64>,
    /// Bytes on disk.
    pub cache_bytes: i64,
    /// Blobs that had to make room.
    pub evictions: u64,
    /// Blobs whose bytes were not what their digest says.
    pub corrupt_blobs: u64,
}

impl Meters {
    /// Shows the counters among `metrics`.
    pub fn registered(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register(|all| {
            let all = all.sub_registry_with_prefix("mirror");
            let bytes = || Unit::Bytes;
            all.register_with_unit("in", "From registries", bytes(), own.bytes_in.clone());
            all.register_with_unit("out", "To nodes", bytes(), own.bytes_out.clone());
            all.register("blob_requests", "Requests for blobs by what was there", own.requests.clone());
            all.register("fetches", "Fetches under way", own.fetches.clone());
            all.register("upstream_errors", "Failures of registries", own.errors.clone());
            all.register_with_unit("cache", "On disk", bytes(), own.cached.clone());
            all.register("evictions", "Blobs that had to make room", own.evictions.clone());
            all.register("corrupt_blobs", "Blobs whose bytes were not what their digest says", own.corrupt.clone());
        });
        own
    }

    /// All of them.
    pub fn stats(&self) -> MirrorStats {
        let share = |share: Share| self.requests.get_or_create(&share.into()).get();
        let errors = Fault::ALL.map(|fault| {
            let reason = fault.reason();
            (reason.to_owned(), self.errors.get_or_create(&ByReason { reason }).get())
        });
        MirrorStats {
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            hits: share(Share::Hit),
            joined: share(Share::Joined),
            misses: share(Share::Miss),
            fetches: self.fetches.get(),
            upstream_errors: errors.into_iter().filter(|(_, count)| *count > 0).collect(),
            cache_bytes: self.cached.get(),
            evictions: self.evictions.get(),
            corrupt_blobs: self.corrupt.get(),
        }
    }

    /// Bytes from a registry.
    pub fn bytes_in(&self, bytes: u64) {
        self.bytes_in.inc_by(bytes);
        self.cached.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Bytes to a node.
    pub fn bytes_out(&self, bytes: u64) {
        self.bytes_out.inc_by(bytes);
    }

    /// A request for a blob.
    pub fn request(&self, share: Share) {
        self.requests.get_or_create(&share.into()).inc();
    }

    /// A fetch began.
    pub fn fetch_started(&self) {
        self.fetches.inc();
    }

    /// A fetch is over.
    pub fn fetch_ended(&self) {
        self.fetches.dec();
    }

    /// A registry failed.
    pub fn upstream_error(&self, fault: Fault) {
        self.errors.get_or_create(&ByReason { reason: fault.reason() }).inc();
    }

    /// How many bytes there are on disk.
    pub fn cached(&self, bytes: u64) {
        self.cached.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A blob had to make room.
    pub fn evicted(&self) {
        self.evictions.inc();
    }

    /// A blob's bytes were not what its digest says.
    pub fn corrupt(&self) {
        self.corrupt.inc();
    }
}
