//! One request on its way through the nodes: attempt after attempt, until one answers.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Gateway,
    ask::Ask,
    attempt::{Missed, Ready, attempt},
    balance::{NoPlace, Wish},
    context,
    counter::Account,
    failure::Failure,
    faults::Faults,
    meters::{ByModel, ModelMeters, Outcome},
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
        context::check(self.ask, legs)?;
        for leg in legs {
            self.run.aim(leg);
            self.run.measure(self.meters(leg));
            if let Some(ready) = self.leg(leg).await? {
                return Ok(ready);
            }
        }
        let waited = self.gateway.settings().queue_limit;
        let reason = legs.last().map_or("", |leg| &leg.reason);
        Err(self.faults.failure(reason, context::too_narrow(self.ask, legs), waited))
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
            self.gateway.meters().waited(waited);
            self.patience = self.patience.saturating_sub(waited);
            let place = match place {
                Ok(place) => place,
                Err(NoPlace::Nobody) => return Ok(None),
                Err(why) => {
                    self.faults.add_full(why == NoPlace::Crowded);
                    return Ok(None);
                }
            };
            self.run.attempt(place.holder());
            match attempt(self.gateway, self.ask, leg.target, renamer.clone(), &place, self.run).await {
                Ok(answer) => {
                    self.run.answers();
                    if answer.schema_failure.is_some() {
                        self.run.attempted(run_record::Outcome::SchemaFailure, answer.schema_failure.clone());
                    }
                    let kept = answer.schema_failure.is_none();
                    self.count(if kept { Outcome::Answered } else { Outcome::SchemaFailure });
                    let (account, broken) = (leg.account.clone(), self.gateway.meters().broken());
                    return Ok(Some(Ready { answer, place, account, broken }));
                }
                Err(Missed::ByCaller(failure) | Missed::TooLong(failure)) => {
                    self.count(Outcome::Refused);
                    leg.account.iter().for_each(|account| account.counter.responded());
                    self.run.attempted(run_record::Outcome::Refused, Some(failure.message.clone()));
                    place.note(None);
                    return Err(failure);
                }
                Err(Missed::ByNode(error)) => {
                    self.count(Outcome::Failed);
                    self.gateway.meters().failed(&error);
                    self.run.attempted(run_record::Outcome::Failed, Some(error.to_string()));
                    leg.account.iter().for_each(Account::failed);
                    place.note(Some(&error));
                    self.faults.add(&place.holder().node, leg.target, error);
                }
            }
        }
    }

    /// Where the request counts while the leg is tried.
    fn meters(&self, leg: &Leg<'_>) -> Arc<ModelMeters> {
        let (task, target) = (self.ask.task, leg.target);
        self.serving.meters(target, task, || {
            let requested = leg.deployment.unwrap_or(&target.tag);
            let model = ByModel::new(task, requested, &target.tag, target.version.as_deref());
            self.gateway.meters().models().of(model)
        })
    }

    fn count(&self, outcome: Outcome) {
        self.gateway.meters().attempt(outcome);
    }

    /// Whether a node may still be asked.
    fn is_usable(&self, target: &Target, holder: &Holder) -> bool {
        let node = &holder.node;
        context::fits(self.ask, target, node) && !self.faults.rule_out(node, target)
    }
}
