//! What would become of a request right now. Nothing is counted, and no place taken.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Balance, Pool, Wish, digest, pool::Seat};
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
    pub holder: Arc<Holder>,
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
    /// Looks at the nodes of `pool` as [`Balance::place`] would.
    pub fn outlook(&self, pool: &Arc<Pool>, wish: Wish<'_>, usable: impl Fn(&Holder) -> bool) -> Outlook {
        let usable = |index: usize| usable(&pool.seats()[index].holder);
        let session = wish.session.filter(|_| pool.has_choice()).map(digest);
        let seen = |Seat { holder, node, window }: &Seat| {
            let (in_flight, limit) = node.load();
            let window = Some(window.load(Ordering::Relaxed)).filter(|window| *window > 0);
            Seen { holder: holder.clone(), in_flight, limit, standing: node.standing(self.now()), window }
        };
        Outlook {
            nodes: pool.seats().iter().map(seen).collect(),
            next: pool.preview(session, usable, || self.now()),
            waiting: self.lock().waiting(pool),
        }
    }
}
