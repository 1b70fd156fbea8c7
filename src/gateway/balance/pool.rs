//! The nodes that hold one model, prepared for many choices.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{node::NodeState, roster::Roster};
use crate::{
    domain::routing::{Candidate, Groups},
    routing_table::Holder,
};

/// How often another request may be quicker before this one gets in line.
const TRIES: usize = 8;

/// The holders of one target. What a choice looks at is apart from what only the chosen one needs: in a big fleet most of
/// this is in no cache.
pub struct Pool {
    roster: Arc<Roster>,
    loaded: Vec<bool>,
    groups: Groups,
    turn: AtomicUsize,
    holders: Vec<Holder>,
    /// Of the model's runner on each node.
    windows: Vec<Arc<AtomicU64>>,
}

impl Pool {
    /// Of these holders, whose nodes are in the roster in the same order.
    pub fn new(roster: Arc<Roster>, holders: Vec<Holder>, windows: Vec<Arc<AtomicU64>>) -> Self {
        let loaded: Vec<bool> = holders.iter().map(|holder| holder.loaded).collect();
        let groups = Groups::new(loaded.iter().copied());
        Self { roster, loaded, groups, turn: AtomicUsize::new(0), holders, windows }
    }

    /// Its holders.
    pub fn holders(&self) -> &[Holder] {
        &self.holders
    }

    /// What the gateway knows of the node at this place in the list.
    pub fn node(&self, index: usize) -> &Arc<NodeState> {
        self.roster.node(index)
    }

    /// The window of the model's runner there.
    pub fn window(&self, index: usize) -> &AtomicU64 {
        &self.windows[index]
    }

    /// Whether it matters who gets a request.
    pub fn has_choice(&self) -> bool {
        self.roster.len() > 1
    }

    /// Counts a request on a good node for it, of those that are `usable`: the session's own, else the least busy one. The
    /// place in the list, and whether the node is on trial by it; `None` when none has room.
    pub fn enter(
        &self,
        session: Option<u64>,
        usable: impl Fn(usize) -> bool,
        now: impl Fn() -> Duration,
    ) -> Option<(usize, bool)> {
        (0..TRIES).find_map(|_| {
            let (index, _) = self.best(session, &usable, &now, || self.turn.fetch_add(1, Ordering::Relaxed))?;
            self.node(index).enter(&now).map(|is_trial| (index, is_trial))
        })
    }

    /// The node that [`Pool::enter`] would count a request on now, and whether because it is the session's own.
    pub fn preview(
        &self,
        session: Option<u64>,
        usable: impl Fn(usize) -> bool,
        now: impl Fn() -> Duration,
    ) -> Option<(usize, bool)> {
        self.best(session, &usable, &now, || self.turn.load(Ordering::Relaxed))
    }

    fn best(
        &self,
        session: Option<u64>,
        usable: impl Fn(usize) -> bool,
        now: impl Fn() -> Duration,
        turn: impl FnOnce() -> usize,
    ) -> Option<(usize, bool)> {
        let candidate = |index: usize| {
            let node = self.node(index);
            let (in_flight, limit) = node.load();
            let weight = if usable(index) { self.roster.weight(index) } else { 0 };
            Candidate { in_flight, limit, weight, loaded: self.loaded[index], suspect: node.is_suspect(&now) }
        };
        let own = session.and_then(|session| self.roster.settle(session, candidate));
        own.map(|index| (index, true)).or_else(|| Some((self.groups.choose(candidate, turn())?, false)))
    }

    /// The place of a node in the list.
    pub fn place_of(&self, node: &Arc<NodeState>) -> Option<usize> {
        self.roster.place_of(node)
    }
}
