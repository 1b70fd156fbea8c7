//! What it costs to commit a run record: how many a second, and how long each takes, by how many are under way at once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use drover::{
    domain::run_id::RunId,
    ports::{Records, RunRecord},
    records::{self, Place, Retention, Sync},
};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    support::{Scratch, eventually, postgres::Postgres},
    table::Table,
};

const AT_ONCE: [usize; 3] = [1, 16, 64];
const MEASURED: Duration = Duration::from_secs(2);
/// A hundredth of what a gateway may add to an answer, one at a time (docs/benchmarks.md).
const GOAL_MICROSECONDS: f64 = 30.0;

pub async fn run(table: &mut Table) {
    let dir = Scratch::new();
    let postgres = Postgres::start(dir.path()).await;
    let url = |name: &'static str| async { Place::Postgres(postgres.database(name).await.parse().expect("a URL")) };
    let stores = [
        ("SQLite", Place::Folder(dir.join("normal")), Sync::Normal),
        ("SQLite, full sync", Place::Folder(dir.join("full")), Sync::Full),
        ("PostgreSQL", url("normal_sync").await, Sync::Normal),
        ("PostgreSQL, full sync", url("full_sync").await, Sync::Full),
    ];
    for (name, place, sync) in stores {
        let retention = Retention { age: Duration::from_secs(86_400), size: u64::MAX };
        let (records, keeper) = records::open(records::Settings { place, sync, retention }).expect("a store");
        let keeper = tokio::spawn(keeper);
        eventually("the store is ready", Duration::from_secs(20), async || records.ready()).await;
        for at_once in AT_ONCE {
            let (rate, p50, p99) = measure(&records, at_once).await;
            let what = format!("commit of a run record to {name}, {at_once} at once");
            let figure = format!("{p50:.0} µs p50, {p99:.0} µs p99, {rate:.0}/s");
            if name == "SQLite" && at_once == 1 {
                table.goal(format!("{what}: ≤ {GOAL_MICROSECONDS} µs p50"), figure, p50 <= GOAL_MICROSECONDS);
            } else {
                table.note(what, figure);
            }
        }
        drop(records);
        drop(keeper.await);
    }
}

/// Commits a second, and the middle and 99th percentile of what one takes in microseconds.
async fn measure(records: &Arc<dyn Records>, at_once: usize) -> (f64, f64, f64) {
    let began = Instant::now();
    let committers = (0..at_once).map(|_| tokio::spawn(commit_until(records.clone(), began + MEASURED)));
    let committers: Vec<_> = committers.collect();
    let mut taken = Vec::new();
    for committer in committers {
        taken.extend(committer.await.expect("no panic"));
    }
    let rate = taken.len() as f64 / began.elapsed().as_secs_f64();
    taken.sort_by(f64::total_cmp);
    (rate, taken[taken.len() / 2], taken[taken.len() * 99 / 100])
}

async fn commit_until(records: Arc<dyn Records>, end: Instant) -> Vec<f64> {
    let mut taken = Vec::new();
    let sample = record();
    while Instant::now() < end {
        let record = RunRecord { id: RunId::new(Timestamp::now(), rand::random()), ..sample.clone() };
        let began = Instant::now();
        records.commit(record).await.expect("it is committed");
        taken.push(began.elapsed().as_secs_f64() * 1e6);
        // As between two requests of one caller, others have their turn.
        tokio::task::yield_now().await;
    }
    taken
}

/// A usual one.
fn record() -> RunRecord {
    let record = json!({
        "id": RunId(0), "startedAt": Timestamp::now(), "namespace": "default", "path": "/v1/chat/completions",
        "requested": "support-bot", "stream": true, "outcome": "Answered", "status": 200, "finishReason": "stop",
        "resolved": { "model": "llama3.2:3b", "digest": format!("sha256:{}", "0".repeat(64)), "version": "v1.1.0",
            "deployment": "support-bot", "node": "gpu-1", "reason": "deployment support-bot: stable v1.1.0" },
        "parameters": { "temperature": { "value": 0.2, "source": "version" }, "num_ctx": { "value": 8192, "source": "version" } },
        "tokens": { "prompt": 812, "completion": 164 },
        "timings": { "queueMs": 0.0, "firstTokenMs": 180.5, "totalMs": 3120.25, "loadMs": 12.5, "promptMs": 150.0, "completionMs": 2900.0 },
        "attempts": [{ "node": "gpu-1", "target": "v1.1.0", "outcome": "Answered", "ms": 180.5 }],
    });
    serde_json::from_value(record).expect("a record")
}
