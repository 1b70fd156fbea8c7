//! Rollbacks under load, and many rollouts that take their steps at once.

mod stage;
mod steps;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    machine,
    support::{eventually, http_client},
    table::Table,
};
use stage::{NAMES, Stage, VERSIONS};

const ROLLBACKS: usize = 100;
/// Callers of each gateway, who ask again a little after each answer.
const CALLERS: usize = 4;
const PAUSE: Duration = Duration::from_millis(8);
const WITHIN: Duration = Duration::from_secs(60);
/// Both gateways have answered so often with the canary before it is taken back.
const ANSWERS_OF_CANARY: usize = 10;
const GOAL_MS: f64 = 1000.0;

pub async fn run(table: &mut Table) {
    table.note("load of the machine", machine::load());
    rollbacks(table).await;
    steps::run(table).await;
}

/// One request.
#[derive(Clone, Copy)]
struct Sample {
    gateway: usize,
    sent: Timestamp,
    by_canary: bool,
}

#[derive(Default)]
struct Load {
    samples: Mutex<Vec<Sample>>,
    failures: Mutex<Vec<String>>,
}

async fn rollbacks(table: &mut Table) {
    let stage = Stage::start(1).await;
    let load = Arc::new(Load::default());
    let mut callers = JoinSet::new();
    for gateway in 0..stage.gateways.len() {
        for _ in 0..CALLERS {
            callers.spawn(call(stage.urls[gateway].clone(), gateway, load.clone()));
        }
    }
    let (mut told, mut seen, mut decided_after) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROLLBACKS {
        let begun = Timestamp::now();
        stage.ask_for(0, VERSIONS[1]).await;
        eventually("both gateways answer with the canary", WITHIN, async || load.is_served_since(begun)).await;
        let commanded = Timestamp::now();
        stage.ask_for(0, VERSIONS[0]).await;
        let (decided, effective) = stage.rollback_after(commanded).await;
        // Whoever was asked before the answer of the last gateway has been answered by now.
        tokio::time::sleep(5 * PAUSE).await;
        told.push(milliseconds(decided, effective));
        seen.push(load.last_of_canary(decided).map_or(0.0, |sent| milliseconds(decided, sent)));
        decided_after.push(milliseconds(commanded, decided));
    }
    callers.shutdown().await;
    let failures = load.failures.lock().expect("no panic while it is held").clone();
    let requests = load.samples.lock().expect("no panic while it is held").len();
    table.note(format!("{ROLLBACKS} rollbacks: the command until the decision"), spread(&mut decided_after));
    let goal = "decided until effective on two gateways, as the status says: p99 < 1 s";
    let figure = spread(&mut told);
    table.goal(goal, figure, percentile(&told, 0.99) < GOAL_MS);
    let goal = "decided until the last request was sent that the canary answered, as callers see it: p99 < 1 s";
    let figure = spread(&mut seen);
    table.goal(goal, figure, percentile(&seen, 0.99) < GOAL_MS);
    let first = failures.first().map(|error| format!(": {error}")).unwrap_or_default();
    table.goal(
        "requests that failed meanwhile: 0",
        format!("{} of {requests}{first}", failures.len()),
        failures.is_empty(),
    );
}

async fn call(url: String, gateway: usize, load: Arc<Load>) {
    let http = http_client();
    let body = json!({"model": NAMES[0], "messages": [{"role": "user", "content": "?"}], "stream": false});
    loop {
        let sent = Timestamp::now();
        let answer = http.post(format!("{url}/api/chat")).json(&body).send().await;
        match answer.and_then(reqwest::Response::error_for_status) {
            Ok(answer) => {
                let by_canary = answer.headers().get("x-drover-version").is_some_and(|version| version == VERSIONS[1]);
                let whole = answer.bytes().await;
                let sample = Sample { gateway, sent, by_canary };
                load.samples.lock().expect("no panic while it is held").push(sample);
                if let Err(error) = whole {
                    load.failed(&error);
                }
            }
            Err(error) => load.failed(&error),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Load {
    fn failed(&self, error: &reqwest::Error) {
        self.failures.lock().expect("no panic while it is held").push(error.to_string());
    }

    fn is_served_since(&self, moment: Timestamp) -> Result<(), String> {
        let samples = self.samples.lock().expect("no panic while it is held");
        let mut answers = [0, 0];
        let recent = samples.iter().rev().take_while(|sample| sample.sent > moment);
        recent.filter(|sample| sample.by_canary).for_each(|sample| answers[sample.gateway] += 1);
        if answers.iter().all(|count| *count >= ANSWERS_OF_CANARY) { Ok(()) } else { Err(format!("{answers:?}")) }
    }

    /// When the last request after `moment` was sent that the canary answered.
    fn last_of_canary(&self, moment: Timestamp) -> Option<Timestamp> {
        let samples = self.samples.lock().expect("no panic while it is held");
        let after = samples.iter().filter(|sample| sample.by_canary && sample.sent > moment);
        after.map(|sample| sample.sent).max()
    }
}

fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1000.0
}

/// Of sorted figures.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted[at.clamp(1, sorted.len()) - 1]
}

fn spread(figures: &mut [f64]) -> String {
    figures.sort_unstable_by(f64::total_cmp);
    let [half, most, all] = [0.5, 0.99, 1.0].map(|share| percentile(figures, share));
    format!("p50 {half:.0} ms, p99 {most:.0} ms, max {all:.0} ms")
}
