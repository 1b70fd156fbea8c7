//! A gateway that is killed forgets no answer that it gave.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use drover::{domain::run_id::RunId, routing_table::save};
use futures::StreamExt;
use serde_json::json;

use super::{NOWHERE, Store};
use crate::{
    parts::{Scratch, drover::Drover, free_port},
    support::{FakeNode, plain, table},
};

const CALLERS: usize = 8;

/// Asks again and again, and notes the runs whose answers came whole.
async fn call(url: String, stream: bool, whole: Arc<Mutex<Vec<RunId>>>, over: Arc<AtomicBool>) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let asked = json!({ "model": "alpha:1", "prompt": "hi", "stream": stream }).to_string();
    while !over.load(Ordering::Relaxed) {
        let Ok(answer) = http.post(format!("{url}/api/generate")).body(asked.clone()).send().await else {
            // It is dead at the moment.
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        let id = answer.headers().get("x-drover-run-id").and_then(|id| id.to_str().ok()?.parse().ok());
        let (mut text, mut pieces) = (Vec::new(), answer.bytes_stream());
        while let Some(Ok(piece)) = pieces.next().await {
            text.extend_from_slice(&piece);
        }
        // As soon as the caller can know that it is whole, whether or not the connection ends well.
        if let (Some(id), true) = (id, String::from_utf8_lossy(&text).contains("\"done\":true")) {
            whole.lock().unwrap().push(id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_whole_answer_is_without_a_record_however_the_gateway_dies() {
    let dir = Scratch::new();
    let node = FakeNode::start("n1").await;
    let mut target = plain("alpha:1", &[&node]);
    let entry = drover::routing_table::Node { max_concurrent_requests: 64, ..(*target.holders[0].node).clone() };
    target.holders[0].node = entry.into();
    let data = dir.join("g1");
    fs::create_dir_all(&data).unwrap();
    save(&data.join("routing-table.json"), &table(None, &[target])).unwrap();
    let kubeconfig = dir.join("kubeconfig");
    fs::write(&kubeconfig, NOWHERE).unwrap();
    let port = free_port();
    let mut gateway = Drover::gateway("g1", &kubeconfig, "default", port, dir.path()).await;

    let (whole, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let url = format!("http://127.0.0.1:{port}");
    let callers = (0..CALLERS).map(|n| tokio::spawn(call(url.clone(), n % 2 == 0, whole.clone(), over.clone())));
    let callers: Vec<_> = callers.collect();
    let kills =
        std::env::var("DROVER_GATEWAY_KILLS").map_or(4, |count| count.parse().expect("DROVER_GATEWAY_KILLS: a number"));
    for _ in 0..kills {
        let before = whole.lock().unwrap().len();
        let more = async || match whole.lock().unwrap().len() {
            count if count > before + 50 => Ok(()),
            count => Err(count),
        };
        crate::parts::eventually("answers come", Duration::from_secs(30), more).await;
        tokio::time::sleep(Duration::from_micros(rand::random_range(0..400_000))).await;
        gateway.kill9();
        gateway.restart().await;
    }
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    gateway.kill9();

    let store = Store::in_folder(&data);
    let recorded: std::collections::BTreeSet<RunId> = store.all().await.into_iter().map(|record| record.id).collect();
    let whole = whole.lock().unwrap();
    let lost: Vec<_> = whole.iter().filter(|id| !recorded.contains(id)).collect();
    assert!(lost.is_empty(), "{} of {} whole answers have no record: {lost:?}", lost.len(), whole.len());
}
