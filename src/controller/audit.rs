//! Brings what statuses tell of the past to where it is kept for longer. A status has it from the write that did it, so
//! nothing is lost when this process ends before it was stored, and what was stored already is not stored again.

use std::{
    collections::{HashMap, VecDeque},
    future::pending,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use jiff::Timestamp;
use kube::ResourceExt;
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    api::ModelDeployment,
    cluster::{Change, Watched},
    domain::backoff,
    ports::{AuditLog, AuditRecord},
};

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// So many entries wait for a store that is away; of more, the oldest go.
const LONGEST: usize = 10_000;

/// Runs until `stop`; counts entries that were lost before they could be stored.
///
/// # Errors
/// When the watch ends.
pub async fn run(
    deployments: Watched<ModelDeployment>,
    log: Arc<dyn AuditLog>,
    lost: Counter,
    stop: CancellationToken,
) -> Result<(), String> {
    let mut changes = pin!(deployments.changes());
    let mut backlog = Backlog::default();
    let mut store = Store { log, failures: 0, next: Instant::now() };
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            change = changes.next() => {
                let told = match change.ok_or("the watch of deployments ended")? {
                    Change::One(change) => change.states().last().cloned().into_iter().collect(),
                    Change::Many => deployments.all(),
                };
                let gone: u64 = told.iter().map(|object| backlog.take_up(object)).sum();
                if gone > 0 {
                    lost.inc_by(gone);
                    warn!(entries = gone, "entries of the audit are lost: they could not be stored for too long");
                }
            }
            () = store.turn(&backlog) => drop(stop.run_until_cancelled(store.try_with(&mut backlog)).await),
        }
    }
}

/// Where entries go, and when that is tried next.
struct Store {
    log: Arc<dyn AuditLog>,
    failures: u32,
    next: Instant,
}

impl Store {
    /// Returns when there is something to store and it is time to try.
    async fn turn(&self, backlog: &Backlog) {
        if backlog.waiting.is_empty() {
            pending::<()>().await;
        }
        sleep_until(self.next).await;
    }

    async fn try_with(&mut self, backlog: &mut Backlog) {
        match self.log.add(backlog.waiting().cloned().collect()).await {
            Ok(()) => {
                backlog.waiting.clear();
                if std::mem::take(&mut self.failures) > 0 {
                    info!("the audit can be stored again");
                }
            }
            Err(error) => {
                if self.failures == 0 {
                    warn!(%error, "the audit can't be stored; it is kept in memory until then");
                }
                self.failures += 1;
                let wait = backoff::delay(self.failures, FIRST_RETRY, LAST_RETRY, rand::random());
                self.next = Instant::now() + wait;
            }
        }
    }
}

/// What is to be stored. A status keeps an entry until twenty others have come; here it waits for as long as it must.
#[derive(Default)]
pub struct Backlog {
    /// The newest entry of each deployment, by its uid, that was taken up.
    known: HashMap<String, (u64, Timestamp)>,
    /// Oldest first, of each deployment.
    waiting: VecDeque<AuditRecord>,
}

impl Backlog {
    /// Takes up what a status tells since the last time; returns how many entries are lost: those that the status didn't
    /// keep until now, and those that had to make room here.
    pub fn take_up(&mut self, object: &ModelDeployment) -> u64 {
        let Some(uid) = object.uid() else { return 0 };
        let known = self.known.get(&uid);
        let told = records(object).into_iter();
        let new: Vec<_> = told.take_while(|told| Some(&(told.entry.number, told.entry.at)) != known).collect();
        let (Some(newest), Some(oldest)) = (new.first(), new.last()) else { return 0 };
        let skipped = known.map_or(0, |(number, _)| oldest.entry.number.saturating_sub(number + 1));
        self.known.insert(uid, (newest.entry.number, newest.entry.at));
        self.waiting.extend(new.into_iter().rev());
        let too_many = self.waiting.len().saturating_sub(LONGEST);
        self.waiting.drain(..too_many);
        skipped + too_many as u64
    }

    /// What waits to be stored, the oldest first.
    pub fn waiting(&self) -> impl ExactSizeIterator<Item = &AuditRecord> {
        self.waiting.iter()
    }
}

/// What the status of a deployment tells, newest first.
pub fn records(object: &ModelDeployment) -> Vec<AuditRecord> {
    let entries = object.status.iter().flat_map(|status| &status.rollout.audit);
    let record = |entry: &_| AuditRecord {
        namespace: object.namespace().unwrap_or_default(),
        deployment: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        model: object.spec.model.clone(),
        entry: Clone::clone(entry),
    };
    entries.map(record).collect()
}
