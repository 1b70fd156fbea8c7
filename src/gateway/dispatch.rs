//! One request on its way through the nodes: attempt after attempt, until one answers.

use std::time::Duration;

use axum::response::Response;
use tokio::time::Instant;

use super::{
    Gateway,
    ask::Ask,
    attempt::{Missed, attempt},
    failure::Failure,
    faults::Faults,
    meters::Outcome,
    plan::Leg,
    run::Run,
};
use crate::routing_table::{Holder, Target};

/// What a request has behind it.
pub struct Dispatch<'a> {
    gateway: &'a Gateway,
    ask: &'a Ask,
    run: &'a mut Run,
    faults: Faults,
    /// How long it may still wait for a place.
    patience: Duration,
}

impl<'a> Dispatch<'a> {
    /// A request that has nothing behind it.
    pub fn new(gateway: &'a Gateway, ask: &'a Ask, run: &'a mut Run) -> Self {
        Self { gateway, ask, run, faults: Faults::default(), patience: gateway.settings().queue_limit }
    }

    /// The first answer, leg by leg.
    ///
    /// # Errors
    /// The caller's mistake, or why no node could answer.
    pub async fn run(mut self, legs: &[Leg<'_>]) -> Result<Response, Failure> {
        self.check_context(legs)?;
        for leg in legs {
            self.run.aim(leg.target, &leg.reason);
            if let Some(response) = self.leg(leg).await? {
                return Ok(response);
            }
        }
        let waited = self.gateway.settings().queue_limit;
        Err(self.faults.failure(&self.run.reason, self.too_narrow(legs), waited))
    }

    /// An answer from one of the leg's nodes; `None` when all failed or stayed full.
    async fn leg(&mut self, leg: &Leg<'_>) -> Result<Option<Response>, Failure> {
        loop {
            let holders = self.holders(leg.target);
            if holders.is_empty() {
                return Ok(None);
            }
            let since = Instant::now();
            let place = self.gateway.balance().place(holders, self.patience).await;
            self.patience = self.patience.saturating_sub(since.elapsed());
            let Some(place) = place else {
                self.faults.add_full();
                return Ok(None);
            };
            self.run.attempt(&place.holder);
            match attempt(self.gateway, self.ask, leg.target, &place.holder.node, &self.run.id).await {
                Ok(answer) => {
                    self.run.truncated = answer.truncated;
                    self.run.schema_failure.clone_from(&answer.schema_failure);
                    let kept = answer.schema_failure.is_none();
                    self.count(if kept { Outcome::Answered } else { Outcome::SchemaFailure });
                    let broken = self.gateway.meters().broken();
                    return Ok(Some(answer.into_response(place, leg.counter.clone(), broken)));
                }
                Err(Missed::ByCaller(failure) | Missed::TooLong(failure)) => {
                    self.count(Outcome::Refused);
                    place.note(None);
                    return Err(failure);
                }
                Err(Missed::ByNode(error)) => {
                    self.count(Outcome::Failed);
                    leg.counter.iter().for_each(|counter| counter.failed());
                    place.note(Some(&error));
                    self.faults.add(&place.holder.node, leg.target, error);
                }
            }
        }
    }

    fn count(&self, outcome: Outcome) {
        self.gateway.meters().attempt(outcome);
    }

    /// The nodes that may still be asked.
    fn holders(&self, target: &Target) -> Vec<Holder> {
        let usable = target.holders.iter().filter(|holder| holder.node.weight > 0);
        let fitting = usable.filter(|holder| self.ask.context(target, &holder.node).is_ok());
        fitting.filter(|holder| !self.faults.rule_out(&holder.node, target)).cloned().collect()
    }

    /// Refuses a context window that no node allows.
    fn check_context(&self, legs: &[Leg<'_>]) -> Result<(), Failure> {
        let Some(wanted) = self.ask.num_ctx else { return Ok(()) };
        let model = legs.iter().map(|leg| leg.target.context_length().unwrap_or(u64::MAX)).max();
        let holders = legs.iter().flat_map(|leg| &leg.target.holders);
        let node = holders.map(|holder| holder.node.max_context_length.map_or(u64::MAX, u64::from)).max();
        let limits = [(model, "the model can take"), (node, "any node allows")];
        match limits.into_iter().find_map(|(most, who)| Some((most.filter(|most| wanted > *most)?, who))) {
            None => Ok(()),
            Some((most, who)) => Err(Failure::bad_request(format!(
                "options.num_ctx: {wanted} is not in the range from 1 to {most}: those are the tokens that {who}"
            ))),
        }
    }

    /// Says that nodes allow less context than the version is configured for.
    fn too_narrow(&self, legs: &[Leg<'_>]) -> Option<String> {
        let holders = legs.iter().flat_map(|leg| leg.target.holders.iter().map(|holder| (leg.target, holder)));
        let limit = holders.filter_map(|(target, holder)| self.ask.context(target, &holder.node).err()).max()?;
        Some(format!("the version's num_ctx is over the {limit} tokens that its nodes allow"))
    }
}
