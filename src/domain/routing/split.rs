//! Which side of a rollout a request goes to.

use super::affinity::hash;

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

/// So many failed attempts in a row end a canary on a gateway.
const OUTRIGHT: u64 = 10;

/// Whether a canary fails outright, by the attempts of each side that failed since its last one that didn't: a limit so
/// steep that no gateway needs to ask anybody. When stable fails as well, the fault is in what both have in common.
pub fn fails_outright(canary: u64, stable: u64) -> bool {
    canary >= OUTRIGHT && stable < OUTRIGHT
}

/// So many requests may wait for a canary's first answer on a gateway, those included that it failed.
const UNPROVEN: u64 = 20;

/// Whether a canary that has answered nothing yet may get one more request, by how many wait for it and how many
/// attempts failed. However many requests come before the first one has failed, few of them can meet a version that can't
/// answer at all.
pub fn may_be_tried(waiting: u64, failed: u64) -> bool {
    waiting + failed < UNPROVEN
}

/// The hash that puts a session on one side of a rollout: the same for ever and on every gateway (FNV-1a, its bits
/// mixed so that also the remainder by 100 is spread evenly).
pub fn session_hash(rollout_id: &str, session: &[u8]) -> u64 {
    hash(rollout_id.bytes().chain([0]).chain(session.iter().copied()))
}
