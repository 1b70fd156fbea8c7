//! Copies of requests for a canary that has no requests of its own yet: its answers are counted and thrown away.
//!
//! A copy is made when the caller's request has its answer, or the beginning of it. It takes a place only where one is
//! free and nobody waits, gives it back when somebody does, and is never queued. It leaves no record, asks nothing of the
//! caller's limits, and says nothing of a node's health.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    Gateway,
    ask::Ask,
    attempt::{Missed, Ready, attempt},
    balance::{Place, Spare},
    context,
    counter::Account,
    plan::Leg,
    recorder::Recorder,
    run::Run,
    serving::Serving,
    spans::Trace,
};
use crate::{
    domain::provider::Price,
    routing_table::{Holder, Target},
    supervisor::Tasks,
};

/// Copies at once.
const AT_ONCE: usize = 16;
/// A longer request is not copied: so many bytes may be held for each copy.
const LONGEST: usize = 4 << 20;
/// A copy ends then at the latest.
const WITHIN: Duration = Duration::from_secs(300);

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Outcome {
    /// The canary answered.
    Answered,
    /// It failed.
    Failed,
    /// The request was wrong for it.
    Refused,
    /// There was no place for it.
    Dropped,
    /// It gave its place to a caller.
    GaveWay,
    /// It took too long, or the gateway ended.
    Cancelled,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: Outcome,
}

/// The copies of a gateway.
pub struct Shadows {
    tasks: Tasks,
    room: Arc<Semaphore>,
    stop: CancellationToken,
    /// Keeps nothing.
    recorder: Arc<Recorder>,
    copies: Family<ByOutcome, Counter>,
}

impl Default for Shadows {
    fn default() -> Self {
        Self {
            tasks: Tasks::default(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
            stop: CancellationToken::new(),
            recorder: Arc::default(),
            copies: Family::default(),
        }
    }
}

/// One copy.
struct Copy {
    gateway: Gateway,
    serving: Arc<Serving>,
    ask: Ask,
    deployment: String,
    account: Account,
    _room: OwnedSemaphorePermit,
}

impl Shadows {
    /// Lets `/metrics` show what it counts.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Copies of requests for versions before their first step, by what became of them";
        registry.register("gateway_shadow_requests", help, self.copies.clone());
    }

    /// Sends a deployment's canary a copy of a request of `length` bytes, if there is room; returns at once.
    pub fn copy(
        &self,
        gateway: &Gateway,
        serving: &Arc<Serving>,
        deployment: &str,
        account: &Account,
        ask: &Ask,
        length: usize,
    ) {
        let room = Some(&self.room).filter(|_| length <= LONGEST && !self.stop.is_cancelled());
        let Some(room) = room.and_then(|room| room.clone().try_acquire_owned().ok()) else {
            return self.count(Outcome::Dropped);
        };
        let copy = Copy {
            gateway: gateway.clone(),
            serving: serving.clone(),
            ask: ask.clone(),
            deployment: deployment.to_owned(),
            account: account.clone(),
            _room: room,
        };
        let stop = self.stop.clone();
        self.tasks.start(async move {
            let outcome = tokio::select! {
                outcome = copy.answer() => outcome,
                () = stop.cancelled() => Outcome::Cancelled,
                () = tokio::time::sleep(WITHIN) => Outcome::Cancelled,
            };
            copy.gateway.shadows().count(outcome);
        });
    }

    /// Returns when `shutdown` has come and no copy is left: none is waited for.
    pub async fn end_with(&self, shutdown: CancellationToken) {
        shutdown.cancelled().await;
        self.stop.cancel();
        self.tasks.ended().await;
    }

    fn count(&self, outcome: Outcome) {
        self.copies.get_or_create(&ByOutcome { outcome }).inc();
    }
}

/// The pieces of an answer that is broken off. A provider charges for it, and says what only at its end; a piece is a token
/// at least.
struct Owed<'a> {
    account: &'a Account,
    price: Option<Price>,
    pieces: u64,
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if let Some(price) = self.price {
            self.account.spend(price.of(0, self.pieces).amount);
        }
    }
}

impl Copy {
    async fn answer(&self) -> Outcome {
        let balance = self.gateway.balance();
        let Some(target) = self.target() else { return Outcome::Dropped };
        let pool = self.serving.pool(target, balance);
        let usable = |holder: &Holder| context::fits(&self.ask, target, &holder.node);
        let Some(Spare { place, wanted }) = balance.spare(&pool, usable) else { return Outcome::Dropped };
        tokio::select! {
            outcome = self.ask_node(target, place) => outcome,
            () = wanted => Outcome::GaveWay,
        }
    }

    fn target(&self) -> Option<&Target> {
        let namespace = self.serving.table().namespace(&self.gateway.settings().namespace);
        Some(&namespace.deployments.get(&self.deployment)?.canary.as_ref()?.target)
    }

    async fn ask_node(&self, target: &Target, place: Place) -> Outcome {
        let Self { gateway, serving, ask, account, .. } = self;
        let account = Some(account.clone());
        let recorder = &gateway.shadows().recorder;
        let mut run = Run::start(recorder, ask.task.path(), &gateway.settings().namespace, Trace::default());
        let mut leg = Leg::to(target, String::new());
        leg.account.clone_from(&account);
        run.aim(&leg);
        run.attempt(place.holder());
        match attempt(gateway, ask, target, serving.renamer(target), &place, &mut run, false).await {
            Ok(answer) => {
                run.answers();
                let ready = Ready { answer, place, account, broken: Counter::default() };
                let mut owed = Owed {
                    account: &self.account,
                    price: target.offer.as_ref().and_then(|offer| offer.price),
                    pieces: 0,
                };
                // It says nothing that is not counted already.
                if let Ok(response) = ready.into_response(run).await {
                    let mut pieces = response.into_body().into_data_stream();
                    while pieces.next().await.is_some() {
                        owed.pieces += 1;
                    }
                }
                owed.pieces = 0;
                Outcome::Answered
            }
            Err(Missed::ByCaller(_) | Missed::TooLong(_)) => Outcome::Refused,
            Err(Missed::ByNode(_)) => {
                account.iter().for_each(Account::failed);
                Outcome::Failed
            }
        }
    }
}
