//! Places for work that callers go before.

use std::sync::{Arc, atomic::Ordering};

use tokio::sync::futures::OwnedNotified;

use super::{Balance, Place, Pool, Wish};
use crate::routing_table::Holder;

/// A place that no caller waited for.
pub struct Spare {
    /// The place. How its request ends says nothing of the node's health.
    pub place: Place,
    /// Ends when a caller waits for it: it is to be given back then.
    pub wanted: OwnedNotified,
}

impl Balance {
    /// A free place on a sound node of those that are `usable`, at once; `None` when there is none that nobody waits for.
    pub fn spare(self: &Arc<Self>, pool: &Arc<Pool>, usable: impl Fn(&Holder) -> bool) -> Option<Spare> {
        // Before it is looked whether somebody waits: who waits from now on sees that there is a spare place to be given back.
        self.spares.fetch_add(1, Ordering::SeqCst);
        let spare = self.take(pool, Wish::default(), |index| usable(&pool.seats()[index].holder)).map(|mut place| {
            place.is_spare = true;
            Spare { wanted: place.node.wanted().clone().notified_owned(), place }
        });
        let Some(spare) = spare else {
            self.spares.fetch_sub(1, Ordering::SeqCst);
            return None;
        };
        let is_awaited = || self.waiting.load(Ordering::SeqCst) > 0 && self.lock().wants(&spare.place.node);
        // What is tried on a node that failed is a caller's request, or nothing would be known of it afterwards.
        if spare.place.is_trial || is_awaited() {
            return None;
        }
        Some(spare)
    }

    /// Has spare places on the nodes of a pool, but for those at `excluded`, given back.
    pub(super) fn reclaim(&self, pool: &Pool, excluded: &[usize]) {
        if self.spares.load(Ordering::SeqCst) > 0 {
            let nodes = pool.seats().iter().enumerate().filter(|(index, _)| !excluded.contains(index));
            nodes.for_each(|(_, seat)| seat.node.wanted().notify_waiters());
        }
    }
}
