//! What was done to a version, as the deployments of its model tell: pure.

use std::{cmp::Reverse, sync::Arc};

use kube::ResourceExt;

use crate::{
    api::{AuditedVersion, ModelDeployment, ModelVersion},
    domain::rollout::AUDIT_LIMIT,
};

/// What was known and what the deployments tell now, the newest first; a deployment that is gone leaves what it told.
pub fn audit(version: &ModelVersion, deployments: &[Arc<ModelDeployment>]) -> Vec<AuditedVersion> {
    let mut audit = version.status.as_ref().map(|status| status.audit.clone()).unwrap_or_default();
    for deployment in deployments.iter().filter(|deployment| deployment.spec.model == version.spec.model) {
        let entries = deployment.status.iter().flat_map(|status| &status.rollout.audit);
        for entry in entries.filter(|entry| entry.version == version.spec.version) {
            let told = AuditedVersion { deployment: deployment.name_any(), entry: entry.clone() };
            if !audit.contains(&told) {
                audit.push(told);
            }
        }
    }
    audit.sort_by_key(|told| Reverse((told.entry.at, told.entry.number)));
    audit.truncate(AUDIT_LIMIT);
    audit
}
