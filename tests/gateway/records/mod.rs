//! What is recorded of requests, where, and that it stays.

mod audit;
mod kills;
mod management;
mod outages;
mod replays;
mod runs;
mod stores;

use std::{path::Path, sync::Arc, time::Duration};

use drover::{
    domain::{
        run_id::RunId,
        run_record::{Outcome, Resolved, RunFilter, RunRecord as Record},
    },
    gateway::{Settings, recorder::Recorder},
    ports::{Records, RunRecord},
    records::{self, Keeper, Place, Retention, Sync, WhenDown},
    routing_table::RoutingTable,
};
use jiff::Timestamp;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::World;

const FOREVER: Retention = Retention { age: Duration::from_secs(10_000 * 86_400), size: u64::MAX };

/// An API server that is not there.
pub const NOWHERE: &str = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "nowhere",
    "clusters": [{"name": "nowhere", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "nobody", "user": {}}],
    "contexts": [{"name": "nowhere", "context": {"cluster": "nowhere", "user": "nobody"}}]}"#;

/// A store at work.
pub struct Store {
    pub records: Arc<dyn Records>,
    keeper: JoinHandle<()>,
}

impl Store {
    fn open(settings: records::Settings) -> Self {
        let (records, keeper): (_, Keeper) = records::open(settings).expect("a store");
        let keeper = tokio::spawn(async move { drop(keeper.await) });
        Self { records, keeper }
    }

    pub fn in_folder(folder: &Path) -> Self {
        Self::open(in_folder(folder, FOREVER))
    }

    /// Ends as a process does that is asked to.
    async fn close(self) {
        drop(self.records);
        self.keeper.await.expect("no panic");
    }

    /// Ends as a process does that is killed, as far as this one can.
    async fn kill(self) {
        self.keeper.abort();
        drop(self.keeper.await);
    }

    async fn ready(&self) {
        let ready = async || self.records.ready();
        crate::parts::eventually("the store is ready", Duration::from_secs(20), ready).await;
    }

    async fn all(&self) -> Vec<RunRecord> {
        self.records.list(RunFilter::default(), 100_000).await.expect("a list").items
    }
}

fn in_folder(folder: &Path, retention: Retention) -> records::Settings {
    records::Settings { place: Place::Folder(folder.into()), sync: Sync::Normal, retention }
}

/// A gateway that records in this store.
async fn world(table: RoutingTable, store: &Store, when_down: WhenDown, capture: bool) -> World {
    let recorder = Recorder::storing(store.records.clone(), when_down, capture);
    World::start_recording(table, Settings::default(), recorder).await
}

/// A record of a run that started at this second.
fn record(second: i64) -> RunRecord {
    let started_at = Timestamp::from_second(second).expect("a second");
    let id = RunId::new(started_at, rand::random());
    let record = json!({
        "id": id, "startedAt": started_at, "namespace": "default", "path": "/api/chat", "requested": "alpha",
        "outcome": "Answered", "status": 200,
    });
    serde_json::from_value(record).expect("a record")
}

/// The same, answered by this model on this node.
fn answered(second: i64, model: &str, node: &str) -> RunRecord {
    let resolved = Resolved {
        model: model.into(),
        digest: format!("sha256:{model}").into(),
        version: Some("v1.0.0".into()),
        deployment: None,
        node: Some(node.into()),
        reason: "because".into(),
    };
    Record { resolved: Some(resolved), outcome: Outcome::Answered, ..record(second) }
}
