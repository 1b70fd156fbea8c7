//! The nodes that hold one model, prepared for many choices.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::node::NodeState;
use crate::{
    domain::routing::{self, Candidate, FEW, Groups},
    routing_table::Holder,
};

/// Sessions are told apart so far when there are many nodes: their orders are worked out once and shared.
const ORDERS: usize = 1024;
/// How often another request may be quicker before this one gets in line.
const TRIES: usize = 8;

/// The holders of one target, and what the gateway knows of each node.
pub struct Pool {
    seats: Vec<Seat>,
    groups: Groups,
    ranks: Vec<routing::Seat>,
    /// By node; requests that wait are looked up by the node that becomes free.
    by_node: OnceLock<HashMap<usize, usize>>,
    orders: OnceLock<Box<[OnceLock<Vec<usize>>]>>,
    turn: AtomicUsize,
}

/// One holder.
pub struct Seat {
    /// The node, and how it holds the model.
    pub holder: Arc<Holder>,
    /// What the gateway knows of it.
    pub node: Arc<NodeState>,
    /// The window of the model's runner there.
    pub window: Arc<AtomicU64>,
}

impl Pool {
    /// Of these holders.
    pub fn new(seats: Vec<Seat>) -> Self {
        let rank = |seat: &Seat| routing::Seat {
            hash: routing::hash(seat.holder.node.id.bytes()),
            weight: seat.holder.node.weight,
        };
        Self {
            groups: Groups::new(seats.iter().map(|seat| seat.holder.loaded)),
            ranks: seats.iter().map(rank).collect(),
            seats,
            by_node: OnceLock::new(),
            orders: OnceLock::new(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Its holders.
    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// Whether it matters who gets a request.
    pub fn has_choice(&self) -> bool {
        self.seats.len() > 1
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
            self.seats[index].node.enter(&now).map(|is_trial| (index, is_trial))
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
            let Seat { holder, node, .. } = &self.seats[index];
            let (in_flight, limit) = node.load();
            let weight = if usable(index) { holder.node.weight } else { 0 };
            Candidate { in_flight, limit, weight, loaded: holder.loaded, suspect: node.is_suspect(&now) }
        };
        let own = session.and_then(|session| self.settle(session, candidate));
        own.map(|index| (index, true)).or_else(|| Some((self.groups.choose(candidate, turn())?, false)))
    }

    fn settle(&self, session: u64, candidate: impl Fn(usize) -> Candidate) -> Option<usize> {
        if self.seats.len() <= FEW {
            return routing::settle(&routing::shortlist(session, &self.ranks), candidate);
        }
        let orders = self.orders.get_or_init(|| (0..ORDERS).map(|_| OnceLock::new()).collect());
        let order = session % ORDERS as u64;
        let shortlist = orders[order as usize].get_or_init(|| routing::shortlist(order, &self.ranks));
        routing::settle(shortlist, candidate)
    }

    /// The place of a node in the list.
    pub fn place_of(&self, node: &Arc<NodeState>) -> Option<usize> {
        let by_node = self.by_node.get_or_init(|| {
            self.seats.iter().enumerate().map(|(index, seat)| (Arc::as_ptr(&seat.node).addr(), index)).collect()
        });
        by_node.get(&Arc::as_ptr(node).addr()).copied()
    }
}
