//! How a request goes from one leg of its plan to the next: by the rules of a chain, where it goes by one.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::http::StatusCode;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    ask::{Ask, Layer},
    failure::Failure,
    plan::Leg,
    serving::Serving,
};
use crate::domain::{
    directory::{self, Policy, Step, Way, Worker, leaves},
    params::Source,
};

/// By which way of the directory a leg was found.
#[derive(Clone, Debug)]
pub struct Route<'a> {
    way: Way<'a, Value>,
    /// When that may change, where a worker asks.
    pub policy: Option<Policy>,
}

impl<'a> Route<'a> {
    /// That of a way, asked for by a worker with this policy, if by any.
    pub fn of(way: &Way<'a, Value>, policy: Option<Policy>) -> Self {
        Self { way: way.clone(), policy }
    }

    /// Why, in one line.
    pub fn reason(&self) -> String {
        self.way.reason()
    }

    /// The worker that asks.
    pub fn worker(&self) -> Option<&'a Worker<Value>> {
        self.way.worker
    }

    /// What exactly runs.
    pub fn identity(&self) -> &'a str {
        &self.way.model.identity
    }

    /// The parameters that it brings, by who says them.
    fn layers(&self) -> Vec<Layer> {
        let step =
            self.way.step.map(|(_, step)| (if step.force { Source::Forced } else { Source::Step }, &step.parameters));
        let worker = self.way.worker.map(|worker| (Source::Worker, &worker.parameters));
        let profile = self.way.profile.map(|profile| (Source::Profile, &profile.parameters));
        let layers = [step, worker, profile].into_iter().flatten().filter(|(_, layer)| !layer.is_empty());
        layers.map(|(source, layer)| (source, Arc::clone(layer))).collect()
    }
}

/// A request's walk over the legs of its plan.
pub struct Walk<'a> {
    serving: &'a Serving,
    legs: &'a [Leg<'a>],
    until: Option<Instant>,
    attempts_left: u32,
}

impl<'a> Walk<'a> {
    /// The walk over these legs of a table, which begins now.
    pub fn new(serving: &'a Serving, legs: &'a [Leg<'a>]) -> Self {
        let chain = legs.first().and_then(|leg| leg.route.as_ref()?.way.chain);
        let until = chain.and_then(|chain| chain.deadline).map(|deadline| Instant::now() + deadline);
        Self { serving, legs, until, attempts_left: chain.map_or(u32::MAX, |chain| chain.max_attempts) }
    }

    /// Whether another attempt may be made.
    pub fn may_try(&self) -> bool {
        self.attempts_left > 0 && self.until.is_none_or(|until| Instant::now() < until)
    }

    /// Counts an attempt.
    pub fn tries(&mut self) {
        self.attempts_left = self.attempts_left.saturating_sub(1);
    }

    /// How long an attempt on a leg may take.
    pub fn within(&self, leg: &Leg<'_>) -> Option<Duration> {
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        let own = step_of(leg).and_then(|(_, step)| step.timeout);
        [left, own].into_iter().flatten().min()
    }

    /// How many nodes may be asked on a leg.
    pub fn nodes(leg: &Leg<'_>) -> u32 {
        step_of(leg).and_then(|(_, step)| step.retries).map_or(u32::MAX, |retries| retries.saturating_add(1))
    }

    /// The leg that is next when the one at `at` failed like this; nothing: it is the last one.
    pub fn next(&self, at: usize, failure: directory::Failure) -> Option<usize> {
        use directory::Failure::{Error, Timeout, Unavailable};
        let (leg, after) = (self.legs.get(at)?, at + 1);
        let is_same = |other: &Leg<'_>| step_of(other).map(|(step, _)| step) == step_of(leg).map(|(step, _)| step);
        if matches!(failure, Error | Timeout | Unavailable) && self.legs.get(after).is_some_and(is_same) {
            return Some(after);
        }
        step_of(leg).filter(|(_, step)| leaves(&step.on, failure))?;
        let mut later = (after..self.legs.len()).filter(|later| !is_same(&self.legs[*later]));
        later.next()
    }

    /// Whether a leg would be left for another one when it fails like this.
    pub fn goes_on(&self, at: usize, failure: directory::Failure) -> bool {
        self.may_try() && self.next(at, failure).is_some()
    }

    /// The request as it is made of the nodes of a leg.
    ///
    /// # Errors
    /// That the step's own schema is none.
    pub fn ask<'r>(&self, at: usize, ask: &'r Ask) -> Result<Cow<'r, Ask>, Failure> {
        let Some(route) = self.legs.get(at).and_then(|leg| leg.route.as_deref()) else { return Ok(Cow::Borrowed(ask)) };
        let layers = route.layers();
        let step = route.way.step.map(|(_, step)| step).filter(|step| step.schema.is_some());
        // What would be cut here may be whole in the next step.
        let refuses = self.next(at, directory::Failure::ContextOverflow).is_some() && ask.truncate.is_none();
        if layers.is_empty() && step.is_none() && !refuses {
            return Ok(Cow::Borrowed(ask));
        }
        let mut own = ask.with_layers(layers);
        if let Some(step) = step {
            own.check = self.serving.check(step).map_err(|why| {
                Failure::new(StatusCode::SERVICE_UNAVAILABLE, "no_target", format!("the step's schema: {why}"))
            })?;
        }
        own.truncate = own.truncate.or(refuses.then_some(false));
        Ok(Cow::Owned(own))
    }
}

fn step_of<'a>(leg: &Leg<'a>) -> Option<(usize, &'a Step<Value>)> {
    leg.route.as_ref()?.way.step
}
