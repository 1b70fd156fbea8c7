//! Who waits for a free place: one line for each model, in which callers take turns.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::oneshot;

use super::{Place, node::NodeState, pool::Pool};

/// A request that waits.
pub struct Waiter {
    /// Places in the pool's list that it can't use.
    pub excluded: Vec<usize>,
    /// Where it is told.
    pub place: oneshot::Sender<Place>,
    /// Who sent it.
    pub caller: u64,
}

/// Everybody who waits.
#[derive(Default)]
pub struct Queue {
    lines: Vec<Line>,
    arrivals: u64,
}

/// Those who wait for one model.
struct Line {
    pool: Arc<Pool>,
    /// The caller whose turn is next comes first.
    callers: VecDeque<Caller>,
}

struct Caller {
    id: u64,
    /// In their order, each with its number among all arrivals.
    waiters: VecDeque<(u64, Waiter)>,
}

impl Queue {
    /// Adds a waiter for a pool; whether it could, as no more than `longest` may wait. The number says how many left unserved.
    pub fn push(&mut self, pool: &Arc<Pool>, waiter: Waiter, longest: usize) -> (bool, usize) {
        let at = self.lines.iter().position(|line| Arc::ptr_eq(&line.pool, pool)).unwrap_or_else(|| {
            self.lines.push(Line { pool: pool.clone(), callers: VecDeque::new() });
            self.lines.len() - 1
        });
        let line = &mut self.lines[at];
        let gone = if line.count() >= longest { line.forget_gone() } else { 0 };
        if line.count() >= longest {
            return (false, gone);
        }
        self.arrivals += 1;
        line.push(self.arrivals, waiter);
        (true, gone)
    }

    /// How many wait for a pool, those included who left and were not missed yet.
    pub fn waiting(&self, pool: &Arc<Pool>) -> usize {
        self.lines.iter().find(|line| Arc::ptr_eq(&line.pool, pool)).map_or(0, Line::count)
    }

    /// Whether somebody waits who could use a place on this node.
    pub fn wants(&self, node: &Arc<NodeState>) -> bool {
        self.lines.iter().any(|line| line.pool.place_of(node).is_some_and(|place| line.next(place).is_some()))
    }

    /// Takes out who comes next at this node, which has room, and its place in the pool's list. The number says how many
    /// left, this one included.
    pub fn serve(&mut self, node: &Arc<NodeState>) -> (Option<(Waiter, Arc<Pool>, usize)>, usize) {
        let mut gone = 0;
        let mut next: Option<(u64, usize, usize, usize)> = None;
        for (at, line) in self.lines.iter_mut().enumerate() {
            let Some(place) = line.pool.place_of(node) else { continue };
            gone += line.forget_gone();
            let found = line.next(place).filter(|(arrival, ..)| next.is_none_or(|(earliest, ..)| *arrival < earliest));
            if let Some((arrival, caller)) = found {
                next = Some((arrival, at, caller, place));
            }
        }
        let served = next.and_then(|(_, at, caller, place)| {
            let line = &mut self.lines[at];
            Some((line.take(caller, place)?, line.pool.clone(), place))
        });
        self.lines.retain(|line| !line.callers.is_empty());
        let left = gone + usize::from(served.is_some());
        (served, left)
    }
}

impl Line {
    fn count(&self) -> usize {
        self.callers.iter().map(|caller| caller.waiters.len()).sum()
    }

    fn push(&mut self, arrival: u64, waiter: Waiter) {
        let known = self.callers.iter_mut().find(|caller| caller.id == waiter.caller);
        match known {
            Some(caller) => caller.waiters.push_back((arrival, waiter)),
            None => self.callers.push_back(Caller { id: waiter.caller, waiters: [(arrival, waiter)].into() }),
        }
    }

    /// Drops those who wait no longer; how many.
    fn forget_gone(&mut self) -> usize {
        let before = self.count();
        for caller in &mut self.callers {
            caller.waiters.retain(|(_, waiter)| !waiter.place.is_closed());
        }
        self.callers.retain(|caller| !caller.waiters.is_empty());
        before - self.count()
    }

    /// The first caller with a request that can use this place, and when that request came.
    fn next(&self, place: usize) -> Option<(u64, usize)> {
        let arrival = |caller: &Caller| {
            let fitting = caller.waiters.iter().find(|(_, waiter)| !waiter.excluded.contains(&place));
            fitting.map(|(arrival, _)| *arrival)
        };
        self.callers.iter().enumerate().find_map(|(index, caller)| Some((arrival(caller)?, index)))
    }

    /// Takes out that request; its caller's next turn comes after the others'.
    fn take(&mut self, caller: usize, place: usize) -> Option<Waiter> {
        let mut caller = self.callers.remove(caller)?;
        let at = caller.waiters.iter().position(|(_, waiter)| !waiter.excluded.contains(&place));
        let waiter = at.and_then(|at| caller.waiters.remove(at));
        if !caller.waiters.is_empty() {
            self.callers.push_back(caller);
        }
        waiter.map(|(_, waiter)| waiter)
    }
}
