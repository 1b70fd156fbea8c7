//! What is said in the log when the controller starts.

use std::{collections::HashSet, time::Duration};

use kube_runtime::reflector::ObjectRef;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{WatchedFleet, facts};
use crate::{api::OllamaNode, domain::health, supervisor::Jobs};

/// How long nodes may take to be looked at.
const LOOKED_WITHIN: Duration = Duration::from_secs(10);

/// Once there is a complete view and every node was looked at, or after some seconds, warns of each model that is
/// missing and each node that is away.
pub fn warn_at_start(jobs: &Jobs, watched: WatchedFleet, mut looked: watch::Receiver<HashSet<ObjectRef<OllamaNode>>>) {
    jobs.start(CancellationToken::new(), async move {
        if watched.ready().await.is_err() {
            return;
        }
        let all =
            |looked: &HashSet<_>| watched.nodes.all().iter().all(|node| looked.contains(&ObjectRef::from_obj(&**node)));
        // What was not looked at in time is reported as it is known.
        let _ = timeout(LOOKED_WITHIN, looked.wait_for(all)).await;
        let fleet = watched.all();
        let reports: Vec<_> = facts::reports(&fleet).into_values().collect();
        let report = health::join(&reports);
        report.warnings().iter().for_each(|line| warn!("{line}"));
        let counts = report.counts;
        info!(
            status = ?report.status,
            nodes = counts.nodes,
            ready_nodes = counts.ready_nodes,
            missing_models = counts.missing,
            "the fleet at start-up"
        );
    });
}
