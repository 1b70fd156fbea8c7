//! How many requests this gateway has under way on each node, and who waits for a free place.
//!
//! Counts belong to nodes, not to tables, so they survive a new table. A request that finds every place taken waits
//! in one queue; a place that becomes free goes to the first in it that can use it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{
    domain::routing::{Candidate, choose},
    ports::NodeError,
    routing_table::{Holder, RoutingTable},
};

/// How long a node to which no connection held goes behind the others.
const SUSPECT_FOR: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Load {
    in_flight: u32,
    /// As the newest table has it.
    limit: Option<u32>,
    suspect_until: Option<Instant>,
}

struct Waiter {
    holders: Vec<Holder>,
    place: oneshot::Sender<Place>,
}

#[derive(Default)]
struct Places {
    /// By node id.
    nodes: HashMap<String, Load>,
    turn: usize,
}

#[derive(Default)]
struct State {
    places: Places,
    queue: VecDeque<Waiter>,
}

/// The requests under way on every node.
#[derive(Default)]
pub struct Balance(Mutex<State>);

/// One request's place on a node; dropping it makes the place free.
pub struct Place {
    balance: Arc<Balance>,
    /// The node, and how it holds the model.
    pub holder: Holder,
}

impl Place {
    /// Notes how the request ended. A node to which the connection failed goes behind the others for a while.
    pub fn note(&self, error: Option<&NodeError>) {
        let suspect = error.is_some_and(is_about_connection);
        if let Some(load) = self.balance.lock().places.nodes.get_mut(&self.holder.node.id) {
            load.suspect_until = suspect.then(|| Instant::now() + SUSPECT_FOR);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.balance.release(&self.holder.node.id);
    }
}

impl Balance {
    /// A place on the best of these nodes, waiting for it at most `patience`; `None` when all stayed full.
    pub async fn place(self: &Arc<Self>, holders: Vec<Holder>, patience: Duration) -> Option<Place> {
        let waiting = {
            let mut state = self.lock();
            if let Some(index) = state.places.take(&holders) {
                return holders.into_iter().nth(index).map(|holder| self.hold(holder));
            }
            if patience.is_zero() {
                return None;
            }
            let (place, waiting) = oneshot::channel();
            state.queue.push_back(Waiter { holders, place });
            waiting
        };
        timeout(patience, waiting).await.ok()?.ok()
    }

    /// Takes over the limits of a new table and forgets idle nodes that it no longer has.
    pub fn keep(self: &Arc<Self>, table: &RoutingTable) {
        let mut state = self.lock();
        for load in state.places.nodes.values_mut() {
            load.limit = None;
        }
        for node in table.namespaces.values().flat_map(|namespace| namespace.nodes.values()) {
            state.places.nodes.entry(node.id.clone()).or_default().limit = Some(node.max_concurrent_requests);
        }
        state.places.nodes.retain(|_, load| load.limit.is_some() || load.in_flight > 0);
        drop(state);
        self.hand_out();
    }

    fn release(self: &Arc<Self>, node: &str) {
        if let Some(load) = self.lock().places.nodes.get_mut(node) {
            load.in_flight = load.in_flight.saturating_sub(1);
        }
        self.hand_out();
    }

    /// Gives free places to those who wait, in their order.
    fn hand_out(self: &Arc<Self>) {
        loop {
            let Some((waiter, index)) = self.lock().serve_first() else { return };
            // Not under the lock: a place whose waiter just left is dropped here, which takes the lock.
            if let Some(holder) = waiter.holders.into_iter().nth(index) {
                drop(waiter.place.send(self.hold(holder)));
            }
        }
    }

    fn hold(self: &Arc<Self>, holder: Holder) -> Place {
        Place { balance: self.clone(), holder }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The first waiter for whom there is room, with the node that it gets.
    fn serve_first(&mut self) -> Option<(Waiter, usize)> {
        let mut at = 0;
        while let Some(waiter) = self.queue.get(at) {
            if waiter.place.is_closed() {
                self.queue.remove(at);
            } else if let Some(index) = self.places.take(&waiter.holders) {
                return self.queue.remove(at).map(|waiter| (waiter, index));
            } else {
                at += 1;
            }
        }
        None
    }
}

impl Places {
    /// Counts a request on the best of these nodes; `None` when none has room.
    fn take(&mut self, holders: &[Holder]) -> Option<usize> {
        let now = Instant::now();
        let candidates: Vec<Candidate> = holders.iter().map(|holder| self.candidate(holder, now)).collect();
        let index = choose(&candidates, self.turn)?;
        self.turn = self.turn.wrapping_add(1);
        self.nodes.entry(holders[index].node.id.clone()).or_default().in_flight += 1;
        Some(index)
    }

    fn candidate(&self, holder: &Holder, now: Instant) -> Candidate {
        let load = self.nodes.get(&holder.node.id);
        Candidate {
            in_flight: load.map_or(0, |load| load.in_flight),
            limit: load.and_then(|load| load.limit).unwrap_or(holder.node.max_concurrent_requests),
            weight: holder.node.weight,
            loaded: holder.loaded,
            suspect: load.and_then(|load| load.suspect_until).is_some_and(|until| until > now),
        }
    }
}

/// Whether it was not the node's answer that failed but the way to it.
pub fn is_about_connection(error: &NodeError) -> bool {
    !matches!(error, NodeError::Status { .. })
}
