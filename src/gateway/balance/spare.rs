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
    /// A free place on a sound node of those that are `usable`, at once, which leaves a free one to callers where a node
    /// has several; `None` when there is none, or somebody waits for it.
    pub fn spare(self: &Arc<Self>, pool: &Arc<Pool>, usable: impl Fn(&Holder) -> bool) -> Option<Spare> {
        let mut place = self.take(pool, Wish::default(), |index| usable(&pool.holders()[index]))?;
        place.is_spare = true;
        // Before it is looked whether somebody waits: who waits from now on sees that there is a place to be given back.
        let wanted = place.node().lend();
        let (in_flight, limit) = place.node().load();
        let is_last = in_flight >= limit && limit > 1;
        let is_awaited = || self.waiting.load(Ordering::SeqCst) > 0 && self.lock().wants(place.node());
        // What is tried on a node that failed is a caller's request, or nothing would be known of it afterwards.
        let is_fit = !is_last && !place.is_trial && !is_awaited();
        is_fit.then_some(Spare { place, wanted })
    }

    /// Has one lent place of a pool, none of those at `excluded`, given back to who waits for it.
    pub(super) fn reclaim(&self, pool: &Pool, excluded: &[usize]) {
        let mut indices = (0..pool.holders().len()).filter(|index| !excluded.contains(index));
        // Whether there was one doesn't matter: then places become free as callers' requests end.
        let _ = indices.any(|index| pool.node(index).reclaim());
    }
}
