//! One request on its way through the nodes: attempt after attempt, until one answers.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};

use super::{
    Gateway,
    ask::Ask,
    attempt::{Answer, CONTEXT_OVERFLOW, Missed, Ready, attempt},
    balance::{NoPlace, Place, Pool, Wish},
    context,
    counter::Account,
    failure::Failure,
    faults::Faults,
    meters::{ByModel, ModelMeters, Outcome},
    plan::Leg,
    run::Run,
    serving::Serving,
    walk::Walk,
};
use crate::{
    domain::{directory, run_record},
    ports::NodeError,
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

/// What came of a leg.
enum Left {
    /// An answer.
    Ready(Box<Ready>),
    /// None, for this reason.
    For(directory::Failure),
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
        let (mut walk, mut next) = (Walk::new(self.serving, legs), (!legs.is_empty()).then_some(0));
        while let Some(at) = next.filter(|_| walk.may_try()) {
            let leg = &legs[at];
            self.run.aim(leg);
            self.run.measure(self.meters(leg));
            let ask = walk.ask(at, self.ask)?;
            match self.leg(leg, at, &ask, &mut walk).await? {
                Left::Ready(ready) => return Ok(*ready),
                Left::For(failure) => next = walk.next(at, failure),
            }
        }
        let waited = self.gateway.settings().queue_limit;
        let reason = legs.last().map(Leg::reason).unwrap_or_default();
        Err(self.faults.failure(&reason, context::too_narrow(self.ask, legs), waited))
    }

    /// An answer from one of the leg's nodes, or why there is none: all failed, stayed full, or answered in a way that has
    /// the next leg answer.
    async fn leg(&mut self, leg: &Leg<'_>, at: usize, ask: &Ask, walk: &mut Walk<'_>) -> Result<Left, Failure> {
        let (mut asked, mut failed) = (0, directory::Failure::Unavailable);
        let pool = self.serving.pool(leg.target, self.gateway.balance());
        let renamer = self.serving.renamer(leg.target);
        while asked < Walk::nodes(leg) && walk.may_try() {
            let place = match self.place(leg, ask, &pool, walk.within(leg)).await {
                Ok(place) => place,
                Err(NoPlace::Nobody) => return Ok(Left::For(failed)),
                Err(why) => {
                    self.faults.add_full(why == NoPlace::Crowded);
                    return Ok(Left::For(failed));
                }
            };
            (asked, failed) = (asked + 1, directory::Failure::Error);
            walk.tries();
            self.run.attempt(place.holder());
            let leaves_empty = walk.goes_on(at, directory::Failure::Empty);
            let answer = attempt(self.gateway, ask, leg.target, renamer.clone(), &place, self.run, leaves_empty);
            let (answer, is_late) = in_time(answer, walk.within(leg)).await;
            match answer {
                Ok(answer) => return Ok(self.answered(leg, answer, place, |fault| walk.goes_on(at, fault))),
                Err(Missed::ByCaller(failure) | Missed::TooLong(failure)) => {
                    let overflows = failure.code == CONTEXT_OVERFLOW;
                    self.count(Outcome::Refused);
                    leg.account.iter().for_each(|account| account.counter.responded());
                    self.run.attempted(run_record::Outcome::Refused, Some(failure.message.clone()));
                    place.note(None);
                    if overflows && walk.goes_on(at, directory::Failure::ContextOverflow) {
                        self.faults.add_left(&place.holder().node, failure.message);
                        return Ok(Left::For(directory::Failure::ContextOverflow));
                    }
                    return Err(failure);
                }
                Err(Missed::ByNode(error)) => {
                    if matches!(error, NodeError::TimedOut(_)) {
                        failed = directory::Failure::Timeout;
                    }
                    self.failed(leg, &place, error, is_late);
                }
            }
        }
        Ok(Left::For(failed))
    }

    /// A place on one of the leg's nodes.
    async fn place(
        &mut self,
        leg: &Leg<'_>,
        ask: &Ask,
        pool: &Arc<Pool>,
        within: Option<Duration>,
    ) -> Result<Place, NoPlace> {
        let usable = |holder: &Holder| self.is_usable(ask, leg.target, holder);
        let since = Instant::now();
        let patience = within.map_or(self.patience, |within| within.min(self.patience));
        let place = self.gateway.balance().place(pool, self.wish, usable, patience).await;
        let waited = since.elapsed();
        self.run.waited(waited);
        self.gateway.meters().waited(waited);
        self.patience = self.patience.saturating_sub(waited);
        place
    }

    /// What becomes of an answer: it is sent, unless something is wrong with it that has another leg answer.
    fn answered(
        &mut self,
        leg: &Leg<'_>,
        answer: Answer,
        place: Place,
        goes_on: impl Fn(directory::Failure) -> bool,
    ) -> Left {
        self.run.answers();
        let kept = answer.schema_failure.is_none();
        if !kept {
            self.run.attempted(run_record::Outcome::SchemaFailure, answer.schema_failure.clone());
        }
        self.count(if kept { Outcome::Answered } else { Outcome::SchemaFailure });
        let fault = answer.fault().filter(|fault| goes_on(*fault));
        let (account, broken) = (leg.account.clone(), self.gateway.meters().broken());
        let (node, ready) = (place.holder().node.clone(), Ready { answer, place, account, broken });
        let Some(fault) = fault else { return Left::Ready(Box::new(ready)) };
        let why = ready.leave(self.run);
        self.faults.add_left(&node, why.clone());
        if kept {
            self.run.attempted(run_record::Outcome::Failed, Some(why));
        }
        Left::For(fault)
    }

    /// Notes that a node failed; `is_late`: only by being slower than a step allows, which is not the node's fault.
    fn failed(&mut self, leg: &Leg<'_>, place: &Place, error: NodeError, is_late: bool) {
        self.count(Outcome::Failed);
        self.gateway.meters().failed(&error);
        self.run.attempted(run_record::Outcome::Failed, Some(error.to_string()));
        leg.account.iter().for_each(Account::failed);
        if !is_late {
            place.note(Some(&error));
        }
        self.faults.add(&place.holder().node, leg.target, error);
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
    fn is_usable(&self, ask: &Ask, target: &Target, holder: &Holder) -> bool {
        let node = &holder.node;
        context::fits(ask, target, node) && !self.faults.rule_out(node, target)
    }
}

/// What an attempt comes to that may take only so long; with it whether it took longer.
async fn in_time(
    attempt: impl Future<Output = Result<Answer, Missed>>,
    within: Option<Duration>,
) -> (Result<Answer, Missed>, bool) {
    let Some(within) = within else { return (attempt.await, false) };
    match timeout(within, attempt).await {
        Ok(answer) => (answer, false),
        Err(_) => (Err(Missed::ByNode(NodeError::TimedOut(within))), true),
    }
}
