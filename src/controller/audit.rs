//! Brings what statuses tell of the past to where it is kept for longer. A status has it from the write that did it, so
//! nothing is lost when this process ends before it was stored, and what was stored already is not stored again.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use kube::ResourceExt;
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

/// Runs until `stop`.
///
/// # Errors
/// When the watch ends.
pub async fn run(
    deployments: Watched<ModelDeployment>,
    log: Arc<dyn AuditLog>,
    stop: CancellationToken,
) -> Result<(), String> {
    let mut changes = pin!(deployments.changes());
    let mut kept = Kept::default();
    while let Some(change) = stop.run_until_cancelled(changes.next()).await {
        let told = match change.ok_or("the watch of deployments ended")? {
            Change::One(change) => change.states().last().cloned().into_iter().collect(),
            Change::Many => deployments.all(),
        };
        let new: Vec<AuditRecord> = told.iter().flat_map(|object| kept.missing(object)).collect();
        if !new.is_empty() && stop.run_until_cancelled(store(&*log, &new)).await.is_none() {
            break;
        }
        kept.note(&new);
    }
    Ok(())
}

/// Tries until it is stored.
async fn store(log: &dyn AuditLog, records: &[AuditRecord]) {
    let mut failures = 0;
    while let Err(error) = log.add(records.to_vec()).await {
        if failures == 0 {
            warn!(%error, "the audit can't be stored; statuses keep the last entries of each deployment until then");
        }
        failures += 1;
        tokio::time::sleep(backoff::delay(failures, FIRST_RETRY, LAST_RETRY, rand::random())).await;
    }
    if failures > 0 {
        info!("the audit can be stored again");
    }
}

/// The newest entry of each deployment, by its uid, that is known to be stored.
#[derive(Default)]
struct Kept(HashMap<String, (u64, Timestamp)>);

impl Kept {
    /// What a status tells since, the oldest first.
    fn missing(&self, object: &ModelDeployment) -> Vec<AuditRecord> {
        let kept = object.uid().and_then(|uid| self.0.get(&uid));
        let told = records(object).into_iter();
        let mut new: Vec<_> = told.take_while(|told| Some(&(told.entry.number, told.entry.at)) != kept).collect();
        new.reverse();
        new
    }

    fn note(&mut self, records: &[AuditRecord]) {
        for AuditRecord { uid, entry, .. } in records {
            self.0.insert(uid.clone(), (entry.number, entry.at));
        }
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
