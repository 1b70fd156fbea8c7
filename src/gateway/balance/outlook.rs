//! What would become of a request right now. Nothing is counted, and no place taken.

use std::{
    fmt,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use super::{Balance, Pool, Wish, digest};
use crate::{domain::routing::Standing, routing_table::Holder};

/// The nodes of a model at this moment.
pub struct Outlook {
    /// Each with what the gateway knows of it.
    pub nodes: Vec<Seen>,
    /// Which of them the next request would go to, and whether because it is its session's own; `None` when none has room.
    pub next: Option<(usize, bool)>,
    /// How many requests wait for a place on one of them.
    pub waiting: usize,
}

/// A node at this moment.
pub struct Seen {
    /// The node, and how it holds the model.
    pub holder: Holder,
    /// Requests under way there.
    pub in_flight: u32,
    /// How many it takes at once.
    pub limit: u32,
    /// Whether its last answers failed, and how long it is left alone for that.
    pub standing: (Standing, Duration),
    /// The widest context window that the model was called with there.
    pub window: Option<u64>,
}

impl Balance {
    /// How many requests wait for a place.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Every node by its id: requests under way, how many there may be, and how it stands.
    pub fn nodes(&self) -> Vec<(String, (u32, u32), Standing)> {
        let (nodes, now) = (self.nodes.lock().unwrap_or_else(PoisonError::into_inner), self.now());
        let mut all: Vec<_> = nodes.iter().map(|(id, node)| (id.clone(), node.load(), node.standing(now).0)).collect();
        all.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        all
    }

    /// Looks at the nodes of `pool` as [`Balance::place`] would.
    pub fn outlook(&self, pool: &Arc<Pool>, wish: Wish<'_>, usable: impl Fn(&Holder) -> bool) -> Outlook {
        let usable = |index: usize| usable(&pool.holders()[index]);
        let session = wish.session.filter(|_| pool.has_choice()).map(digest);
        let seen = |(index, holder): (usize, &Holder)| {
            let node = pool.node(index);
            let (in_flight, limit) = node.load();
            let window = Some(pool.window(index).load(Ordering::Relaxed)).filter(|window| *window > 0);
            Seen { holder: holder.clone(), in_flight, limit, standing: node.standing(self.now()), window }
        };
        Outlook {
            nodes: pool.holders().iter().enumerate().map(seen).collect(),
            next: pool.preview(session, usable, || self.now()),
            waiting: self.lock().waiting(pool),
        }
    }
}

impl fmt::Debug for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balance").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}
