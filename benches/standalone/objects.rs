//! The objects of the comparison, and what is done with them: pulls as a fleet has them, with labels, a filled-in spec
//! and the status of two nodes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use drover::api::ModelPull;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// How long each round of writes takes.
const ROUND: Duration = Duration::from_millis(1500);
/// Objects whose status is patched.
const PATCHED: usize = 500;
const FILLERS: usize = 16;
const MANAGER: &str = "drover";

/// How a status is written.
#[derive(Clone, Copy, Debug)]
pub enum Patching {
    /// By a merge patch.
    Merge,
    /// By server-side apply, as the controller does.
    Apply,
}

/// One client at work in one namespace.
#[derive(Clone)]
pub struct Work {
    client: Client,
    namespace: &'static str,
    made: Arc<AtomicUsize>,
    patched: Arc<AtomicUsize>,
}

impl Work {
    pub fn new(client: Client, namespace: &'static str) -> Self {
        Self { client, namespace, made: Arc::default(), patched: Arc::default() }
    }

    /// Makes the namespace and the objects whose status is patched.
    pub async fn prepare(&self) {
        make_namespace(&self.client, self.namespace).await;
        let work = self.clone();
        spread_over(FILLERS, PATCHED, move |at| {
            let work = work.clone();
            async move { work.create(&format!("patched-{at}")).await }
        })
        .await;
    }

    /// Makes so many objects with a status.
    pub async fn fill(&self, count: usize) {
        make_namespace(&self.client, self.namespace).await;
        let work = self.clone();
        spread_over(FILLERS, count, move |at| {
            let work = work.clone();
            async move {
                let name = format!("pull-{at}");
                work.create(&name).await;
                work.patch(&name, Patching::Apply, at).await;
            }
        })
        .await;
    }

    /// Objects made in a second.
    pub async fn creates(&self, at_once: usize) -> f64 {
        let work = self.clone();
        rate(at_once, move || {
            let work = work.clone();
            async move {
                let number = work.made.fetch_add(1, Ordering::Relaxed);
                work.create(&format!("made-{number}")).await;
            }
        })
        .await
    }

    /// Statuses written in a second.
    pub async fn patches(&self, how: Patching, at_once: usize) -> f64 {
        let work = self.clone();
        rate(at_once, move || {
            let work = work.clone();
            async move {
                let number = work.patched.fetch_add(1, Ordering::Relaxed);
                work.patch(&format!("patched-{}", number % PATCHED), how, number).await;
            }
        })
        .await
    }

    async fn create(&self, name: &str) {
        let object: ModelPull = serde_json::from_value(pull(name)).expect("an object of its kind");
        self.api().create(&PostParams::default(), &object).await.expect("it can be made");
    }

    async fn patch(&self, name: &str, how: Patching, number: usize) {
        let (status, api) = (status(number), self.api());
        let patched = match how {
            Patching::Merge => {
                let patch = json!({ "status": status });
                api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await
            }
            Patching::Apply => {
                let patch = json!({
                    "apiVersion": "drover.dev/v1alpha1", "kind": "ModelPull", "metadata": { "name": name }, "status": status
                });
                api.patch_status(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch)).await
            }
        };
        patched.expect("its status can be written");
    }

    fn api(&self) -> Api<ModelPull> {
        Api::namespaced(self.client.clone(), self.namespace)
    }
}

pub async fn make_namespace(client: &Client, name: &str) {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    let namespace = serde_json::from_value(namespace).expect("a namespace");
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &namespace).await.expect("a new namespace");
}

/// Where a namespace's pulls are.
pub fn path(namespace: &str) -> String {
    format!("/apis/drover.dev/v1alpha1/namespaces/{namespace}/modelpulls")
}

/// How many objects a list or table has in it.
pub fn count(text: &[u8]) -> usize {
    const EACH: &[u8] = br#""creationTimestamp":""#;
    text.windows(EACH.len()).filter(|window| *window == EACH).count()
}

/// Where the next page of a list begins, or empty.
pub fn next_page(text: &[u8]) -> String {
    let head = String::from_utf8_lossy(&text[..text.len().min(1000)]);
    let after = head.split_once(r#""continue":""#).and_then(|(_, rest)| rest.split_once('"'));
    after.map(|(token, _)| token.to_owned()).unwrap_or_default()
}

pub fn pull(name: &str) -> Value {
    json!({
        "apiVersion": "drover.dev/v1alpha1",
        "kind": "ModelPull",
        "metadata": { "name": name, "labels": { "app.kubernetes.io/part-of": "assistant", "team": "support" } },
        "spec": { "model": "llama3.2:3b", "nodeSelector": { "matchLabels": { "tier": "gpu" } }, "required": true },
    })
}

pub fn status(number: usize) -> Value {
    let (total, completed) = (2_019_393_189, number * 4096 % 2_019_393_189);
    let percent = completed * 100 / total;
    let message = format!("1 of 2 nodes have llama3.2:3b; gpu-1 {percent} %");
    let digest = format!("sha256:{:064x}", 0xa80c_4f17_acd5_u64);
    json!({
        "observedGeneration": 1,
        "conditions": [
            { "type": "Ready", "status": "False", "reason": "Pulling", "message": message,
              "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1 },
            { "type": "Reconciling", "status": "True", "reason": "Pulling", "message": message,
              "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1 },
        ],
        "phase": "Pulling",
        "progress": percent,
        "desiredNodes": 2,
        "readyNodes": 1,
        "resolved": { "tag": "llama3.2:3b", "digest": digest, "id": "a80c4f17acd5", "sizeBytes": total },
        "nodes": [
            { "node": "gpu-1", "phase": "Pulling", "completedBytes": completed, "totalBytes": total, "percent": percent,
              "bytesPerSecond": 31_457_280, "remainingSeconds": 36, "message": "pulling dde5aa3fc5ff" },
            { "node": "gpu-2", "phase": "Ready", "completedBytes": total, "totalBytes": total, "percent": 100, "digest": digest },
        ],
    })
}

/// Does something `count` times, each with its number, so many at once.
async fn spread_over<F: Future<Output = ()> + Send + 'static>(
    at_once: usize,
    count: usize,
    act: impl Fn(usize) -> F + Clone + Send + 'static,
) {
    let mut tasks = JoinSet::new();
    for first in 0..at_once {
        let act = act.clone();
        tasks.spawn(async move {
            for at in (first..count).step_by(at_once) {
                act(at).await;
            }
        });
    }
    tasks.join_all().await;
}

/// How often in a second something can be done, so many at once.
async fn rate<F: Future<Output = ()> + Send + 'static>(
    at_once: usize,
    act: impl Fn() -> F + Clone + Send + 'static,
) -> f64 {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        let act = act.clone();
        tasks.spawn(async move {
            let mut done = 0;
            while start.elapsed() < ROUND {
                act().await;
                done += 1;
            }
            done
        });
    }
    let done: usize = tasks.join_all().await.into_iter().sum();
    done as f64 / start.elapsed().as_secs_f64()
}
