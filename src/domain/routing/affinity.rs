//! Keeps a session on one node, whose model then has its earlier turns in memory: rendezvous hashing with bounded loads.
//!
//! Each session ranks all nodes in an order of its own, so that a node that comes or goes moves only the sessions that it
//! gets or had. The first node of that order answers, unless it has clearly more than its share.

use super::choice::{Candidate, mixed};

/// So many nodes of a session's order are looked at.
pub const SHORTLIST: usize = 8;
/// How much more than its share a node may have before its sessions go elsewhere, in percent.
const BOUND: u64 = 125;

/// A node as sessions rank it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Stands for the node, wherever it is in a list.
    pub hash: u64,
    /// Its share of sessions.
    pub weight: u32,
}

/// The hash of a name or a key: the same for ever and on every gateway.
pub fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let fold = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mixed(bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// The first nodes of a session's order, by index: at most [`SHORTLIST`], none without weight.
pub fn shortlist(session: u64, seats: &[Seat]) -> Vec<usize> {
    let weighted = seats.iter().enumerate().filter(|(_, seat)| seat.weight > 0);
    let mut ranked: Vec<(f64, usize)> = weighted.map(|(index, seat)| (score(session, *seat), index)).collect();
    if ranked.len() > SHORTLIST {
        ranked.select_nth_unstable_by(SHORTLIST, |a, b| b.0.total_cmp(&a.0));
        ranked.truncate(SHORTLIST);
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranked.into_iter().map(|(_, index)| index).collect()
}

/// The higher, the sooner; in the long run each node is first for its share of the sessions.
pub(super) fn score(session: u64, seat: Seat) -> f64 {
    // In (0, 1): 53 bits and a half.
    let even = ((mixed(session ^ seat.hash) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(seat.weight) / even.ln()
}

/// The node of a session's shortlist that answers now: the first that works, has the model loaded if any has, and has not
/// clearly more than its share of what they all have under way. `None` when none has room.
pub fn settle(shortlist: &[usize], candidate: impl Fn(usize) -> Candidate) -> Option<usize> {
    let mut seen = [None; SHORTLIST];
    for (seen, index) in seen.iter_mut().zip(shortlist) {
        *seen = Some((*index, candidate(*index))).filter(|(_, candidate)| candidate.weight > 0 && !candidate.suspect);
    }
    let usable = || seen.iter().flatten();
    let (mut under_way, mut weights) = (1, 0);
    for (_, candidate) in usable() {
        under_way += u64::from(candidate.in_flight);
        weights += u64::from(candidate.weight);
    }
    let is_bearable = |candidate: &Candidate| {
        let share = under_way * u64::from(candidate.weight) * BOUND / 100;
        candidate.has_room() && u64::from(candidate.in_flight) * weights < share.max(1)
    };
    let first = |loaded| usable().find(|(_, candidate)| candidate.loaded == loaded && is_bearable(candidate));
    first(true).or_else(|| first(false)).map(|(index, _)| *index)
}
