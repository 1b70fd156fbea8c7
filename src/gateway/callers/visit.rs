//! A request under way, as its caller's limits count it.

use std::{sync::Arc, time::Duration};

use axum::http::StatusCode;

use super::known::Known;
use crate::{
    domain::caller::{Exceeded, Limit},
    gateway::failure::Failure,
};

/// A request under way; it ends when this is dropped.
#[derive(Default)]
pub struct Visit(Option<Arc<Known>>);

impl Visit {
    pub(super) fn begin(known: Option<&Arc<Known>>) -> Result<Self, Failure> {
        let Some(known) = known else { return Ok(Self::default()) };
        let (mut allowance, now) = known.allowance();
        match allowance.begin(&known.key().limits, now) {
            Ok(()) => Ok(Self(Some(known.clone()))),
            Err(exceeded) => Err(too_many(known, exceeded)),
        }
    }

    /// Whose request it is.
    pub fn caller(&self) -> Option<&Arc<str>> {
        self.0.as_ref().map(|known| known.name())
    }

    /// Counts what the answer cost.
    pub fn spend(&self, tokens: u64) {
        if let Some(known) = self.0.as_ref().filter(|_| tokens > 0) {
            let (mut allowance, now) = known.allowance();
            allowance.spend(&known.key().limits, tokens, now);
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(known) = &self.0 {
            known.allowance().0.end();
        }
    }
}

fn too_many(known: &Known, Exceeded { limit, most, retry_after }: Exceeded) -> Failure {
    let (name, gateways) = (known.name(), known.key().gateways);
    let share = if gateways > 1 { format!(" through this gateway, one of {gateways}") } else { String::new() };
    let seconds = whole_seconds(retry_after);
    let advice = match limit {
        Limit::Concurrency => "wait until one of them has ended".into(),
        _ => format!("try again in {seconds} s"),
    };
    let message = format!("the key {name} may have {most} {limit}{share}, which are used up: {advice}");
    Failure::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message).retry_after(seconds)
}

/// Rounded up, so that whoever waits that long doesn't come too early.
fn whole_seconds(wait: Duration) -> u32 {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
