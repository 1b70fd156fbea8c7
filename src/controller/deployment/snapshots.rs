//! What the registry of a model was before a version's place in it changed.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt;
use tracing::warn;

use super::super::Context;
use crate::{
    api::ModelDeployment,
    cluster,
    domain::{
        registry::{self, ModelRecord},
        rollout::State,
    },
};

/// No rollout waits for longer than this.
const KEEP_WITHIN: Duration = Duration::from_secs(1);

/// Keeps it. What can't be kept is told: the change itself, which may be a rollback, goes on.
pub async fn keep(context: &Context, object: &ModelDeployment, before: &State, now: Timestamp) {
    let keeping =
        cluster::keep_snapshot(&context.client, object, before.revision, now, record(context, object, before));
    let failed = match tokio::time::timeout(KEEP_WITHIN, keeping).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the API did not answer in time".into(),
    };
    warn!(deployment = %object.name_any(), error = failed, "no snapshot of the registry was kept before this change");
}

fn record(context: &Context, object: &ModelDeployment, before: &State) -> ModelRecord {
    let mut records = BTreeMap::new();
    for version in context.versions.list(&object.namespace().unwrap_or_default()) {
        let name = &version.spec.version;
        if version.spec.model != object.spec.model || records.contains_key(name) {
            continue;
        }
        // A spec that was read from JSON can be written as JSON.
        if let Ok(record) = version.record(registry::stage(name, [before], version.stage())) {
            records.insert(name.clone(), record);
        }
    }
    ModelRecord::new(Some(before), records)
}
