//! One request on its way through the nodes: attempt after attempt, until one answers.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Gateway,
    ask::Ask,
    attempt::{Missed, Ready, attempt},
    balance::{NoPlace, Wish},
    failure::Failure,
    faults::Faults,
    meters::Outcome,
    plan::Leg,
    run::Run,
    serving::Serving,
};
use crate::{
    domain::run_record,
    routing_table::{Holder, Target},
};

/// What a request has behind it.
pub struct Dispatch<'a> {
    gateway: &'a Gateway,
    serving: &'a Serving,
    ask: &'a Ask,
    wish: Wish<'a>,
    run: &'a mut Run,
    faults: Faults,
    /// How long it may still wait for a place.
    patience: Duration,
}

impl<'a> Dispatch<'a> {
    /// A request that has nothing behind it.
    pub fn new(gateway: &'a Gateway, serving: &'a Serving, ask: &'a Ask, wish: Wish<'a>, run: &'a mut Run) -> Self {
        Self { gateway, serving, ask, wish, run, faults: Faults::default(), patience: gateway.settings().queue_limit }
    }

    /// The first answer, leg by leg.
    ///
    /// # Errors
    /// The caller's mistake, or why no node could answer.
    pub async fn run(mut self, legs: &[Leg<'_>]) -> Result<Ready, Failure> {
        self.check_context(legs)?;
        for leg in legs {
            self.run.aim(leg);
            if let Some(ready) = self.leg(leg).await? {
                return Ok(ready);
            }
        }
        let waited = self.gateway.settings().queue_limit;
        let reason = legs.last().map_or("", |leg| &leg.reason);
        Err(self.faults.failure(reason, self.too_narrow(legs), waited))
    }

    /// An answer from one of the leg's nodes; `None` when all failed or stayed full.
    async fn leg(&mut self, leg: &Leg<'_>) -> Result<Option<Ready>, Failure> {
        let balance = self.gateway.balance();
        let pool = self.serving.pool(leg.target, balance);
        let renamer = self.serving.renamer(leg.target);
        loop {
            let usable = |holder: &Holder| self.is_usable(leg.target, holder);
            let since = Instant::now();
            let place = balance.place(&pool, self.wish, usable, self.patience).await;
            let waited = since.elapsed();
            self.run.waited(waited);
            self.patience = self.patience.saturating_sub(waited);
            let place = match place {
                Ok(place) => place,
                Err(NoPlace::Nobody) => return Ok(None),
                Err(why) => {
                    self.faults.add_full(why == NoPlace::Crowded);
                    return Ok(None);
                }
            };
            self.run.attempt(&place.holder);
            match attempt(self.gateway, self.ask, leg.target, renamer.clone(), &place, self.run).await {
                Ok(answer) => {
                    self.run.answers();
                    if answer.schema_failure.is_some() {
                        self.run.attempted(run_record::Outcome::SchemaFailure, answer.schema_failure.clone());
                    }
                    let kept = answer.schema_failure.is_none();
                    self.count(if kept { Outcome::Answered } else { Outcome::SchemaFailure });
                    let (counter, broken) = (leg.counter.clone(), self.gateway.meters().broken());
                    return Ok(Some(Ready { answer, place, counter, broken }));
                }
                Err(Missed::ByCaller(failure) | Missed::TooLong(failure)) => {
                    self.count(Outcome::Refused);
                    self.run.attempted(run_record::Outcome::Refused, Some(failure.message.clone()));
                    place.note(None);
                    return Err(failure);
                }
                Err(Missed::ByNode(error)) => {
                    self.count(Outcome::Failed);
                    self.run.attempted(run_record::Outcome::Failed, Some(error.to_string()));
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

    /// Whether a node may still be asked.
    fn is_usable(&self, target: &Target, holder: &Holder) -> bool {
        let node = &holder.node;
        node.weight > 0 && self.ask.context(target, node, None).is_ok() && !self.faults.rule_out(node, target)
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
        let limit = holders.filter_map(|(target, holder)| self.ask.context(target, &holder.node, None).err()).max()?;
        Some(format!("the version's num_ctx is over the {limit} tokens that its nodes allow"))
    }
}
