//! Where the audit is kept: who did what to which version, for longer than statuses tell.

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::RecordsError;
use crate::domain::rollout::Entry;

/// One entry with the deployment that it is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// The deployment's namespace.
    pub namespace: String,
    /// The ModelDeployment.
    pub deployment: String,
    /// Tells it from another one that had its name.
    pub uid: String,
    /// Its model line.
    pub model: String,
    /// What was done.
    #[serde(flatten)]
    pub entry: Entry,
}

impl AuditRecord {
    /// The same for the same entry however often it is told. The time is in it because numbers begin anew when a
    /// cluster is set back to an earlier state.
    pub fn id(&self) -> String {
        let Entry { number, at, .. } = &self.entry;
        format!("{}/{number:010}/{}", self.uid, at.as_microsecond())
    }
}

/// Which entries are wanted: those that fit all that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of this namespace.
    pub namespace: Option<String>,
    /// Of this model line.
    pub model: Option<String>,
    /// Of this deployment.
    pub deployment: Option<String>,
    /// From then on.
    pub since: Option<Timestamp>,
}

impl AuditFilter {
    /// Whether an entry is wanted.
    pub fn fits(&self, record: &AuditRecord) -> bool {
        let is = |wanted: &Option<String>, own: &str| wanted.as_ref().is_none_or(|wanted| wanted == own);
        is(&self.namespace, &record.namespace)
            && is(&self.model, &record.model)
            && is(&self.deployment, &record.deployment)
            && self.since.is_none_or(|since| record.entry.at >= since)
    }
}

/// Keeps the audit.
pub trait AuditLog: Send + Sync {
    /// Takes entries; those that it has already stay as they are.
    fn add(&self, records: Vec<AuditRecord>) -> BoxFuture<'_, Result<(), RecordsError>>;

    /// The newest `limit` entries that fit, newest first.
    fn list(&self, filter: AuditFilter, limit: usize) -> BoxFuture<'_, Result<Vec<AuditRecord>, RecordsError>>;
}
