//! Nodes that are chosen among: what is the same for all models that the same nodes hold.
//!
//! A fleet has far more models than sets of nodes. Models with the same nodes share one of these, so that it stays in the
//! processor's caches however many models there are, and a session's order is worked out once for all of them.

use std::{
    collections::{
        HashMap,
        hash_map::{DefaultHasher, Entry},
    },
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use super::node::NodeState;
use crate::domain::routing::{self, Candidate, FEW};

/// Sessions are told apart so far when there are many nodes: their orders are worked out once and shared.
const ORDERS: usize = 1024;

/// Nodes in the order of a list of holders.
pub struct Roster {
    nodes: Vec<Arc<NodeState>>,
    ranks: Vec<routing::Seat>,
    /// By node; requests that wait are looked up by the node that becomes free.
    by_node: OnceLock<HashMap<usize, usize>>,
    orders: OnceLock<Box<[OnceLock<Vec<usize>>]>>,
}

impl Roster {
    fn new(nodes: Vec<Arc<NodeState>>, ranks: Vec<routing::Seat>) -> Self {
        Self { nodes, ranks, by_node: OnceLock::new(), orders: OnceLock::new() }
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// What the gateway knows of the node at this place in the list.
    pub fn node(&self, index: usize) -> &Arc<NodeState> {
        &self.nodes[index]
    }

    /// Its share relative to the others.
    pub fn weight(&self, index: usize) -> u32 {
        self.ranks[index].weight
    }

    /// The place of a node in the list.
    pub fn place_of(&self, node: &Arc<NodeState>) -> Option<usize> {
        let address = |node: &Arc<NodeState>| Arc::as_ptr(node).addr();
        let by_node = self
            .by_node
            .get_or_init(|| self.nodes.iter().enumerate().map(|(index, node)| (address(node), index)).collect());
        by_node.get(&address(node)).copied()
    }

    /// The session's own node, if that can answer now.
    pub fn settle(&self, session: u64, candidate: impl Fn(usize) -> Candidate) -> Option<usize> {
        if self.nodes.len() <= FEW {
            return routing::settle(&routing::shortlist(session, &self.ranks), candidate);
        }
        let orders = self.orders.get_or_init(|| (0..ORDERS).map(|_| OnceLock::new()).collect());
        let order = session % ORDERS as u64;
        let shortlist = orders[order as usize].get_or_init(|| routing::shortlist(order, &self.ranks));
        routing::settle(shortlist, candidate)
    }

    fn has(&self, nodes: &[Arc<NodeState>], ranks: &[routing::Seat]) -> bool {
        let same = |(own, other): (&Arc<NodeState>, &Arc<NodeState>)| Arc::ptr_eq(own, other);
        self.ranks == ranks && self.nodes.iter().zip(nodes).all(same)
    }
}

/// All rosters that are in use.
#[derive(Default)]
pub struct Rosters(Mutex<HashMap<u64, Arc<Roster>>>);

impl Rosters {
    /// The roster of these nodes, the same one for the same nodes.
    pub fn of(&self, nodes: Vec<Arc<NodeState>>, ranks: Vec<routing::Seat>) -> Arc<Roster> {
        let mut hasher = DefaultHasher::new();
        ranks.iter().for_each(|rank| (rank.hash, rank.weight).hash(&mut hasher));
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(hasher.finish()) {
            Entry::Occupied(known) if known.get().has(&nodes, &ranks) => known.get().clone(),
            // Two sets of nodes with one hash: the later one isn't shared.
            Entry::Occupied(_) => Roster::new(nodes, ranks).into(),
            Entry::Vacant(free) => free.insert(Roster::new(nodes, ranks).into()).clone(),
        }
    }

    /// Forgets those that no model uses.
    pub fn forget_unused(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, roster| Arc::strong_count(roster) > 1);
    }
}
