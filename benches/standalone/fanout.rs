//! One change, many watchers.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Body;
use drover::api::ModelPull;
use futures::StreamExt;
use http::Request;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::{sync::Barrier, task::JoinSet};

use super::{ROUNDS, milliseconds, more, objects};
use crate::table::{Table, median};

const NAMESPACE: &str = "fanout";
const WATCHERS: usize = 100;
const CHANGES: usize = 1000;
const OBJECTS: usize = 50;
const WRITERS: usize = 16;
const MARK: &str = "change-";
const DIGITS: usize = 6;

/// What one round came to.
struct Round {
    /// Events that reached a watcher, in a second.
    rate: f64,
    /// Seconds from the start of a change's request to its arrival, the 99th percentile.
    p99: f64,
}

pub async fn run(table: &mut Table, sides: &[Client; 2]) {
    let mut rates = [Vec::new(), Vec::new()];
    let mut lags = [Vec::new(), Vec::new()];
    for client in sides {
        objects::make_namespace(client, NAMESPACE).await;
        for at in 0..OBJECTS {
            let mut object: ModelPull =
                serde_json::from_value(objects::pull(&name(at))).expect("an object of its kind");
            object.status = serde_json::from_value(objects::status(at)).expect("a status");
            Api::namespaced(client.clone(), NAMESPACE).create(&PostParams::default(), &object).await.expect("made");
        }
    }
    for round in 0..ROUNDS {
        for (client, (rates, lags)) in sides.iter().zip(rates.iter_mut().zip(&mut lags)) {
            let Round { rate, p99 } = measure(client, round * CHANGES).await;
            rates.push(rate);
            lags.push(p99);
        }
    }
    more(table, "1,000 changes to 100 watchers, events/s: ≥ 3 ×", &rates, 3.0);
    let [ours, theirs] = &lags;
    let figure = format!("{} ms, API server {} ms", milliseconds(ours), milliseconds(theirs));
    table.goal("the same, p99 from request to event: shorter", figure, median(ours) < median(theirs));
}

fn name(at: usize) -> String {
    format!("watched-{}", at % OBJECTS)
}

async fn measure(client: &Client, first: usize) -> Round {
    let pulls = Api::<ModelPull>::namespaced(client.clone(), NAMESPACE);
    let revision = pulls.list(&ListParams::default().limit(1)).await.expect("a list").metadata.resource_version;
    let path = format!("{}?watch=true&resourceVersion={}", objects::path(NAMESPACE), revision.expect("a revision"));
    let ready = Arc::new(Barrier::new(WATCHERS + 1));
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        let (client, path, ready) = (client.clone(), path.clone(), ready.clone());
        watchers.spawn(async move { watch(&client, &path, &ready).await });
    }
    ready.wait().await;
    let start = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let pulls = pulls.clone();
        writers.spawn(async move {
            let mut sent = Vec::new();
            for number in (first..first + CHANGES).skip(writer).step_by(WRITERS) {
                sent.push((number, Instant::now()));
                let mark = format!("{MARK}{number:0DIGITS$}");
                let patch = Patch::Merge(json!({ "metadata": { "annotations": { "bench": mark } } }));
                pulls.patch(&name(number), &PatchParams::default(), &patch).await.expect("a change");
            }
            sent
        });
    }
    let sent: HashMap<usize, Instant> = writers.join_all().await.into_iter().flatten().collect();
    let arrived: Vec<(usize, Instant)> = watchers.join_all().await.into_iter().flatten().collect();
    let end = arrived.iter().map(|(_, at)| *at).max().expect("events");
    let mut lags: Vec<Duration> = arrived.iter().map(|(number, at)| *at - sent[number]).collect();
    lags.sort();
    let rate = arrived.len() as f64 / (end - start).as_secs_f64();
    Round { rate, p99: lags[lags.len() * 99 / 100].as_secs_f64() }
}

/// When each change came.
async fn watch(client: &Client, path: &str, ready: &Barrier) -> Vec<(usize, Instant)> {
    let request = Request::get(path).body(kube::client::Body::empty()).expect("a request");
    let answer = client.send(request).await.expect("a watch");
    let mut pieces = Body::new(answer.into_body()).into_data_stream();
    ready.wait().await;
    let (mut arrived, mut rest) = (Vec::with_capacity(CHANGES), Vec::new());
    while arrived.len() < CHANGES {
        let piece = pieces.next().await.expect("it goes on").expect("a piece");
        let now = Instant::now();
        rest.extend_from_slice(&piece);
        let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        arrived.extend(rest[..whole].split(|byte| *byte == b'\n').filter_map(number_of).map(|number| (number, now)));
        rest.drain(..whole);
    }
    arrived
}

/// The number of the change that an event tells of.
fn number_of(event: &[u8]) -> Option<usize> {
    let at = event.windows(MARK.len()).position(|window| window == MARK.as_bytes())? + MARK.len();
    std::str::from_utf8(event.get(at..at + DIGITS)?).ok()?.parse().ok()
}
