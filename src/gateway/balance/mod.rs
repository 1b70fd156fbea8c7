//! How many requests this gateway has under way on each node, who gets the next place, and who waits for one.
//!
//! A request that finds room takes it without waiting for any other. One that finds every place taken gets in line; a place
//! that becomes free goes to the next in line that can use it.

mod node;
mod outlook;
mod pool;
mod queue;
mod roster;
mod spare;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use self::{
    node::NodeState,
    queue::{Queue, Waiter},
    roster::Rosters,
};
pub use self::{
    outlook::{Outlook, Seen},
    pool::Pool,
    spare::Spare,
};
use crate::{
    domain::routing::{Ending, Seat, hash},
    ports::NodeError,
    routing_table::{Holder, Namespace, RoutingTable},
};

/// The requests under way on every node.
pub struct Balance {
    /// By node id.
    nodes: Mutex<HashMap<String, Arc<NodeState>>>,
    rosters: Rosters,
    queue: Mutex<Queue>,
    /// How many are in the queue, or about to be.
    waiting: AtomicUsize,
    /// How many may wait for one model.
    longest_queue: usize,
    began: Instant,
}

/// What a request brings to the choice of its node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    /// By what the session is known: a header's name, `user` or `prompt`.
    pub known_by: Option<&'a str>,
    /// What a session is known by, which is best kept on one node.
    pub session: Option<&'a [u8]>,
    /// What the caller is known by: callers who wait take turns.
    pub caller: Option<&'a [u8]>,
}

impl Wish<'_> {
    /// The same without the session, if so: no node is preferred for having had it before.
    pub fn anew(self, is_new: bool) -> Self {
        if is_new { Self { known_by: None, session: None, ..self } } else { self }
    }
}

/// Why a request has no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// There is no node that it could use.
    Nobody,
    /// All stayed full as long as it could wait.
    Full,
    /// Too many wait already.
    Crowded,
}

/// What a request that found no room at first has.
enum Turn {
    Now(Place),
    Later(oneshot::Receiver<Place>),
}

/// One request's place on a node; dropping it makes the place free.
pub struct Place {
    balance: Arc<Balance>,
    pool: Arc<Pool>,
    /// In the pool's list.
    index: usize,
    is_trial: bool,
    is_spare: bool,
}

impl Place {
    /// The node, and how it holds the model.
    pub fn holder(&self) -> &Holder {
        &self.pool.holders()[self.index]
    }

    fn node(&self) -> &Arc<NodeState> {
        self.pool.node(self.index)
    }

    /// Has the model's runner called with a context window of at least this, from now on; the widest that it was called
    /// with, this one included. Ollama loads a model anew whenever its window changes.
    pub fn widen(&self, wanted: Option<u64>) -> Option<u64> {
        let (window, wanted) = (self.pool.window(self.index), wanted.unwrap_or_default());
        let widest = match window.load(Ordering::Relaxed) {
            running if running >= wanted => running,
            _ => window.fetch_max(wanted, Ordering::Relaxed).max(wanted),
        };
        (widest > 0).then_some(widest)
    }

    /// Notes how the request ended: a node to which the connection failed goes behind the others for a while, and so does
    /// one that keeps failing.
    pub fn note(&self, error: Option<&NodeError>) {
        if self.is_spare {
            return;
        }
        let ending = match error {
            None => Ending::Answered,
            Some(NodeError::Status { .. } | NodeError::Throttled { .. }) => Ending::Failed,
            Some(_) => Ending::Lost,
        };
        self.node().note(ending, || self.balance.now());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let node = self.node();
        node.leave(self.is_trial);
        if self.is_spare {
            node.returned();
        }
        self.balance.hand_out(node);
    }
}

impl Balance {
    /// Nothing under way; so many requests may wait for one model.
    pub fn new(longest_queue: usize) -> Self {
        Self {
            nodes: Mutex::default(),
            rosters: Rosters::default(),
            queue: Mutex::default(),
            waiting: AtomicUsize::new(0),
            longest_queue,
            began: Instant::now(),
        }
    }

    /// These holders of a model, prepared for choices among them.
    pub fn pool(&self, holders: &[Holder]) -> Arc<Pool> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |holder: &Holder| {
            let node = nodes.entry(holder.node.id.clone()).or_insert_with(|| {
                let node = NodeState::default();
                node.set_limit(holder.node.max_concurrent_requests);
                node.into()
            });
            (node.clone(), node.window(&holder.digest, holder.loaded))
        };
        let (states, windows) = holders.iter().map(known).unzip();
        let rank = |holder: &Holder| Seat { hash: hash(holder.node.id.bytes()), weight: holder.node.weight };
        let roster = self.rosters.of(states, holders.iter().map(rank).collect());
        Arc::new(Pool::new(roster, holders.to_vec(), windows))
    }

    /// A place on a good node of those that are `usable`, waiting for it at most `patience`.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn place(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        wish: Wish<'_>,
        usable: impl Fn(&Holder) -> bool,
        patience: Duration,
    ) -> Result<Place, NoPlace> {
        let usable = |index: usize| usable(&pool.holders()[index]);
        if self.waiting.load(Ordering::SeqCst) == 0
            && let Some(place) = self.take(pool, wish, usable)
        {
            return Ok(place);
        }
        let excluded: Vec<usize> = (0..pool.holders().len()).filter(|index| !usable(*index)).collect();
        if excluded.len() == pool.holders().len() {
            return Err(NoPlace::Nobody);
        }
        let others = excluded.clone();
        match self.line_up(pool, wish, usable, excluded, patience)? {
            Turn::Now(place) => Ok(place),
            Turn::Later(place) => {
                self.reclaim(pool, &others);
                match timeout(patience, place).await {
                    Ok(Ok(place)) => Ok(place),
                    _ => Err(NoPlace::Full),
                }
            }
        }
    }

    /// Gets in line, unless there is room after all.
    fn line_up(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        wish: Wish<'_>,
        usable: impl Fn(usize) -> bool,
        excluded: Vec<usize>,
        patience: Duration,
    ) -> Result<Turn, NoPlace> {
        let mut queue = self.lock();
        // Before the last look for room: who makes room after it sees that somebody waits.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let turn = match self.take(pool, wish, usable) {
            Some(place) => Ok(Turn::Now(place)),
            None if patience.is_zero() => Err(NoPlace::Full),
            None => {
                let (place, later) = oneshot::channel();
                let (is_added, gone) = queue.push(
                    pool,
                    Waiter { excluded, place, caller: wish.caller.map_or(0, digest) },
                    self.longest_queue,
                );
                self.waiting.fetch_sub(gone, Ordering::SeqCst);
                if is_added { Ok(Turn::Later(later)) } else { Err(NoPlace::Crowded) }
            }
        };
        if !matches!(turn, Ok(Turn::Later(_))) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        turn
    }

    /// Takes over the limits of a new table and forgets idle nodes that it no longer has.
    pub fn keep(self: &Arc<Self>, table: &RoutingTable) {
        let mut changed = Vec::new();
        self.rosters.forget_unused();
        {
            let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            nodes.retain(|_, state| Arc::strong_count(state) > 1);
            for node in table.namespaces.values().flat_map(Namespace::servers) {
                let state = nodes.entry(node.id.clone()).or_default();
                state.set_limit(node.max_concurrent_requests);
                changed.push(state.clone());
            }
        }
        changed.iter().for_each(|node| self.hand_out(node));
    }

    fn take(self: &Arc<Self>, pool: &Arc<Pool>, wish: Wish<'_>, usable: impl Fn(usize) -> bool) -> Option<Place> {
        let session = wish.session.filter(|_| pool.has_choice()).map(digest);
        let (index, is_trial) = pool.enter(session, usable, || self.now())?;
        Some(self.hold(pool, index, is_trial))
    }

    /// Gives the free places of a node to those who wait, in their order.
    fn hand_out(self: &Arc<Self>, node: &Arc<NodeState>) {
        while self.waiting.load(Ordering::SeqCst) > 0 {
            let (served, is_trial) = {
                let mut queue = self.lock();
                let Some(is_trial) = node.enter(|| self.now()) else { return };
                let (served, left) = queue.serve(node);
                self.waiting.fetch_sub(left, Ordering::SeqCst);
                if served.is_none() {
                    // Under the lock: who gets in line meanwhile must see the room.
                    node.leave(is_trial);
                }
                (served, is_trial)
            };
            let Some((waiter, pool, index)) = served else { return };
            // Not under the lock: a place whose waiter just left is dropped here, which takes the lock.
            drop(waiter.place.send(self.hold(&pool, index, is_trial)));
        }
    }

    fn hold(self: &Arc<Self>, pool: &Arc<Pool>, index: usize, is_trial: bool) -> Place {
        Place { balance: self.clone(), pool: pool.clone(), index, is_trial, is_spare: false }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(known_by: &[u8]) -> u64 {
    hash(known_by.iter().copied())
}

/// Whether it was not the node's answer that failed but the way to it.
pub fn is_about_connection(error: &NodeError) -> bool {
    !matches!(error, NodeError::Status { .. } | NodeError::Throttled { .. })
}
