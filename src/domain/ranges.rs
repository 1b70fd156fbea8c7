//! Which bytes of a blob are there, and which request to a registry brings the ones that are not.

use std::ops::Range;

/// A set of bytes, as ranges that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// The set of all bytes in these ranges.
    pub fn of(ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        ranges.into_iter().fold(Self::default(), |mut set, range| {
            set.insert(range);
            set
        })
    }

    /// Adds a range.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|other| other.end < range.start);
        let after = self.0.partition_point(|other| other.start <= range.end);
        let start = self.0.get(first).map_or(range.start, |other| other.start.min(range.start));
        let end = after.checked_sub(1).and_then(|last| self.0.get(last)).map_or(range.end, |o| o.end.max(range.end));
        self.0.splice(first..after.max(first), std::iter::once(start..end));
    }

    /// How many bytes from `at` on are there without a gap.
    pub fn run(&self, at: u64) -> u64 {
        let next = self.0.partition_point(|range| range.end <= at);
        self.0.get(next).filter(|range| range.start <= at).map_or(0, |range| range.end - at)
    }

    /// The first missing bytes at or after `at`, of a blob of `size` bytes.
    pub fn gap(&self, at: u64, size: u64) -> Option<Range<u64>> {
        let start = at + self.run(at);
        let next = self.0.iter().find(|range| range.start > start).map_or(size, |range| range.start);
        Some(start..next.min(size)).filter(|gap| !gap.is_empty())
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().cloned()
    }
}

/// A request to the registry that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// What tells it from others.
    pub id: u64,
    /// The byte that comes next.
    pub at: u64,
    /// Where it ends.
    pub end: u64,
}

/// How a missing byte comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supply {
    /// This request brings it soon.
    Join(u64),
    /// A new request for these bytes; one that was to bring them later, if there is one, must end at their start.
    Start {
        /// The bytes.
        range: Range<u64>,
        /// The request to shorten.
        shorten: Option<u64>,
    },
}

/// A byte that is at most this far from where a request is now is waited for.
pub const NEAR: u64 = 64 << 20;
/// Ollama downloads in this many parts of at least, and at most, these sizes.
const PARTS: u64 = 16;
const SMALLEST_PART: u64 = 100_000_000;
const BIGGEST_PART: u64 = 1_000_000_000;

/// How the byte `at`, which is missing, of a blob of `size` bytes is had.
///
/// A new request ends where Ollama's next part begins: those who pull ask for that, too, and no request that is under
/// way needs to be cut short for them, which would waste the bytes that are on the line already.
pub fn supply(at: u64, size: u64, have: &Ranges, running: &[Running]) -> Supply {
    let brings = running.iter().find(|request| (request.at..request.end).contains(&at));
    if let Some(request) = brings.filter(|request| at - request.at <= NEAR) {
        return Supply::Join(request.id);
    }
    let part = (size / PARTS).clamp(SMALLEST_PART, BIGGEST_PART);
    let part_end = (at / part + 1).saturating_mul(part).min(size);
    let gap_end = have.gap(at, size).map_or(size, |gap| gap.end);
    let others = running.iter().map(|request| request.at).filter(|start| *start > at);
    let end = others.chain([part_end, gap_end]).min().unwrap_or(size);
    Supply::Start { range: at..end, shorten: brings.map(|request| request.id) }
}
