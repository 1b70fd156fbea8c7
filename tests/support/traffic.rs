//! A steady trickle of small chats through a gateway, each of which is recorded.

use std::collections::BTreeMap;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::{eventually, http_client};

/// One request and what came of it.
#[derive(Clone, Debug)]
pub struct Sample {
    pub started: Instant,
    /// Until the last byte of the answer.
    pub latency: Duration,
    pub streamed: bool,
    /// None: no answer came.
    pub status: Option<u16>,
    /// Why the caller has no complete answer.
    pub error: Option<String>,
    /// From `x-drover-version`.
    pub version: Option<String>,
    /// From `x-drover-node`.
    pub node: Option<String>,
    /// What the model said.
    pub text: String,
}

/// Sends requests until it is stopped.
pub struct Trickle {
    stop: oneshot::Sender<()>,
    started: Arc<AtomicUsize>,
    task: JoinHandle<Vec<Sample>>,
}

impl Trickle {
    /// Sends `per_second` chats a second, whether or not earlier ones were answered; every other one is streamed.
    pub fn start(gateway_url: &str, model: &str, per_second: f64) -> Self {
        let (stop, stopped) = oneshot::channel();
        let caller = Caller { http: http_client(), url: format!("{gateway_url}/api/chat"), model: model.to_owned() };
        let started = Arc::<AtomicUsize>::default();
        let task = tokio::spawn(trickle(caller, Duration::from_secs_f64(1.0 / per_second), started.clone(), stopped));
        Self { stop, started, task }
    }

    /// Goes on until at least this many requests were sent, then as [`Self::stop`].
    pub async fn stop_after(self, requests: usize) -> Vec<Sample> {
        eventually("enough requests were sent", Duration::from_secs(60), async || {
            let started = self.started.load(Ordering::Relaxed);
            if started >= requests { Ok(()) } else { Err(started) }
        })
        .await;
        self.stop().await
    }

    /// Waits for the answers that are still to come; returns all samples in the order of their start.
    pub async fn stop(self) -> Vec<Sample> {
        let _ = self.stop.send(());
        self.task.await.expect("the trickle does not panic")
    }
}

/// The share of each version in the samples that name one.
pub fn shares(samples: &[Sample]) -> BTreeMap<String, f64> {
    let mut counts = BTreeMap::new();
    for version in samples.iter().filter_map(|sample| sample.version.as_ref()) {
        *counts.entry(version.clone()).or_insert(0.0) += 1.0;
    }
    let total: f64 = counts.values().sum();
    counts.into_iter().map(|(version, count)| (version, count / total)).collect()
}

/// The samples that have no complete answer.
pub fn failures(samples: &[Sample]) -> Vec<&Sample> {
    samples.iter().filter(|sample| sample.error.is_some()).collect()
}

#[derive(Clone)]
struct Caller {
    http: reqwest::Client,
    url: String,
    model: String,
}

async fn trickle(
    caller: Caller,
    period: Duration,
    started: Arc<AtomicUsize>,
    mut stopped: oneshot::Receiver<()>,
) -> Vec<Sample> {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut running = JoinSet::new();
    for number in 0.. {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            _ = ticks.tick() => {}
        }
        let caller = caller.clone();
        running.spawn(async move { caller.chat(number % 2 == 1).await });
        started.store(number + 1, Ordering::Relaxed);
    }
    let mut samples = running.join_all().await;
    samples.sort_by_key(|sample| sample.started);
    samples
}

impl Caller {
    async fn chat(&self, streamed: bool) -> Sample {
        let mut sample = Sample {
            started: Instant::now(),
            latency: Duration::ZERO,
            streamed,
            status: None,
            error: None,
            version: None,
            node: None,
            text: String::new(),
        };
        sample.error = self.chat_into(&mut sample).await.err();
        sample.latency = sample.started.elapsed();
        sample
    }

    async fn chat_into(&self, sample: &mut Sample) -> Result<(), String> {
        let body = json!({
            "model": self.model,
            "messages": [{"role": "user", "content": "Which one are you?"}],
            "stream": sample.streamed,
            "options": {"num_predict": 16},
        });
        let request = self.http.post(&self.url).json(&body).timeout(Duration::from_secs(30));
        let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
        sample.status = Some(answer.status().as_u16());
        sample.version = header(answer.headers(), "x-drover-version");
        sample.node = header(answer.headers(), "x-drover-node");
        let body = answer.bytes().await.map_err(|error| format!("{error:?}"))?;
        sample.text = complete_answer(&body)?;
        Ok(())
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The text of an answer whose last line says that it is done.
fn complete_answer(body: &[u8]) -> Result<String, String> {
    let broken = |why: &str| format!("{why}: {}", String::from_utf8_lossy(body));
    let mut text = String::new();
    let mut done = false;
    for line in serde_json::Deserializer::from_slice(body).into_iter::<Value>() {
        let line = line.map_err(|error| broken(&error.to_string()))?;
        if !line["error"].is_null() {
            return Err(line["error"].to_string());
        }
        text += line["message"]["content"].as_str().unwrap_or_default();
        done = line["done"] == true;
    }
    if done { Ok(text) } else { Err(broken("the answer ends early")) }
}
