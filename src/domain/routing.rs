//! Which side of a rollout a request goes to, and which node answers it.

/// Whether the `turn`-th request (counted from 0) goes to a canary with `weight` percent.
///
/// Any run of n requests has n·weight/100 canary requests to within one.
pub fn is_canary_turn(turn: u64, weight: u8) -> bool {
    let share = |n: u64| n * u64::from(weight.min(100)) / 100;
    let turn = turn % 100;
    share(turn + 1) > share(turn)
}

/// Whether the session with this `hash` belongs to a canary with `weight` percent. A session once on the canary's
/// side stays there while the weight grows.
pub fn is_canary_session(hash: u64, weight: u8) -> bool {
    hash % 100 < u64::from(weight.min(100))
}

/// A node that could answer, as the gateway sees it at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Requests this gateway has under way there.
    pub in_flight: u32,
    /// How many it takes at once.
    pub limit: u32,
    /// Its share relative to the other nodes; 0 takes nothing.
    pub weight: u32,
    /// Whether it has the model in memory.
    pub loaded: bool,
    /// Whether its last answers failed.
    pub suspect: bool,
}

impl Candidate {
    fn has_room(&self) -> bool {
        self.weight > 0 && self.in_flight < self.limit
    }

    /// Compared in this order: nodes that work, nodes that have the model loaded, the least load for their weight.
    fn rank(&self) -> (bool, bool, u64) {
        let load = (u64::from(self.in_flight) + 1) * 1_000_000 / u64::from(self.weight.max(1));
        (self.suspect, !self.loaded, load)
    }
}

/// The index of the node to send the next request to; `None` when none has room.
/// Equals are taken in rotation, by `turn`.
pub fn choose(candidates: &[Candidate], turn: usize) -> Option<usize> {
    let count = candidates.len();
    (0..count)
        .map(|offset| (turn % count.max(1) + offset) % count)
        .filter(|&index| candidates[index].has_room())
        .min_by_key(|&index| candidates[index].rank())
}

/// The hash that puts a session on one side of a rollout: the same for ever and on every gateway (FNV-1a, its bits
/// mixed so that also the remainder by 100 is spread evenly).
pub fn session_hash(rollout_id: &str, session: &[u8]) -> u64 {
    let key = rollout_id.bytes().chain([0]).chain(session.iter().copied());
    let hash =
        key.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mix = |hash: u64, factor: u64| (hash ^ (hash >> 33)).wrapping_mul(factor);
    let mixed = mix(mix(hash, 0xff51_afd7_ed55_8ccd), 0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}
