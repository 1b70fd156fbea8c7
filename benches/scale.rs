//! A controller with a thousand nodes and five thousand pulls.

use std::{
    collections::{BTreeMap, HashSet},
    pin::pin,
    process::Command,
    time::{Duration, Instant},
};

use drover::{
    api::{HasConditions, ModelPull, OllamaNode},
    cluster::Kind,
    domain::conditions::{ConditionStatus, READY},
};
use futures::{StreamExt, TryStreamExt, stream};
use kube::{Api, Client, ResourceExt, api::PostParams};
use kube_runtime::{WatchStreamExt, watcher};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    fleet::Fleet,
    machine,
    support::{
        Scratch,
        drover::program,
        eventually, free_port,
        kube_api::{KubeApi, Write},
        process::Process,
    },
    table::Table,
    world::install_crds,
};

/// The namespace of all objects.
pub const NAMESPACE: &str = "fleet";
/// Each pull is for the nodes of one pool; a node is in one pool.
const NODES_IN_A_POOL: usize = 2;
/// Requests at once when objects are made.
const CREATORS: usize = 32;
const ALL_READY_WITHIN: Duration = Duration::from_secs(180);
/// Quiet for this long: nothing is under way any more.
const QUIET: Duration = Duration::from_secs(3);
/// Two probes of each node and some.
const IDLE: Duration = Duration::from_secs(12);

/// How many objects.
#[derive(Clone, Copy)]
pub struct Size {
    /// Nodes.
    pub nodes: usize,
    /// Pulls, each for one pool of nodes.
    pub pulls: usize,
}

/// What one run came to.
struct Outcome {
    ready: Duration,
    cpu: Duration,
    writes_per_object: f64,
    most_writes: (usize, String),
    idle_writes: usize,
    memory: (f64, f64),
}

pub async fn run(table: &mut Table) {
    let small = Size { nodes: 100, pulls: 500 };
    let large = Size { nodes: 1000, pulls: 5000 };
    let few = measure(small, Objects::First).await;
    let many = measure(large, Objects::First).await;
    let live = measure(large, Objects::Later).await;
    let ratio = many.ready.as_secs_f64() / few.ready.as_secs_f64();
    table.note("load of the machine", machine::load());
    for (name, outcome) in [
        ("100 nodes, 500 pulls", &few),
        ("1,000 nodes, 5,000 pulls", &many),
        ("the same, applied while it runs", &live),
    ] {
        let ready = outcome.ready.as_secs_f64();
        let goal = format!("{name}: all Ready in < 30 s");
        table.goal(goal, format!("{ready:.1} s, {:.1} s of CPU", outcome.cpu.as_secs_f64()), ready < 30.0);
        let (most, who) = &outcome.most_writes;
        let figure = format!("{:.2}; most {most} ({who})", outcome.writes_per_object);
        table.goal(format!("{name}: ≤ 4 API writes an object"), figure, outcome.writes_per_object <= 4.0);
        let idle = outcome.idle_writes;
        table.goal(format!("{name}: 0 writes when idle"), format!("{idle} in {IDLE:?}"), idle == 0);
        let (now, peak) = outcome.memory;
        table.goal(format!("{name}: < 200 MB"), format!("{now:.0} MB, at most {peak:.0} MB"), peak < 200.0);
    }
    table.goal("10 × the objects: ≤ 11 × the time", format!("{ratio:.1} ×"), ratio <= 11.0);
}

/// When the objects are made.
#[derive(Clone, Copy, PartialEq)]
enum Objects {
    /// Before the controller starts; the clock runs from its start.
    First,
    /// While it runs; the clock runs from the first object.
    Later,
}

async fn measure(size: Size, objects: Objects) -> Outcome {
    let scratch = Scratch::new();
    let api = KubeApi::start(&scratch.join("kube")).await;
    install_crds(&api).await;
    api.kubectl_ok(&["create", "namespace", NAMESPACE], None).await;
    let fleet = Fleet::start(size.nodes, 0).await;
    let client = api.client().await;
    if objects == Objects::First {
        create(&client, &fleet, size).await;
    }
    let before = api.marker().await;
    let start = Instant::now();
    let (mut controller, _) = start_controller(&api, &scratch);
    if objects == Objects::Later {
        create(&client, &fleet, size).await;
    }
    until_all_ready(&client, size, &mut controller).await;
    let ready = start.elapsed();
    let cpu = machine::cpu_time(controller.pid());
    until_quiet(&api).await;
    let settled = api.marker().await;
    let writes = by_object(&api.writes_since(before).await);
    tokio::time::sleep(IDLE).await;
    let idle_writes = by_object(&api.writes_since(settled).await).values().sum();
    let most = writes.iter().max_by_key(|(_, count)| **count).map(|(name, count)| (*count, name.clone()));
    Outcome {
        ready,
        cpu,
        writes_per_object: writes.values().sum::<usize>() as f64 / (size.nodes + size.pulls) as f64,
        most_writes: most.unwrap_or_default(),
        idle_writes,
        memory: machine::memory(controller.pid()),
    }
}

/// The controller and its health port.
pub fn start_controller(api: &KubeApi, scratch: &Scratch) -> (Process, u16) {
    let port = free_port();
    let health = format!("127.0.0.1:{port}");
    let mut command = Command::new(program());
    command.args(["controller", "--namespace", NAMESPACE, "--health-listen", &health, "--log-level", "warn"]);
    command.env("KUBECONFIG", api.kubeconfig());
    (Process::spawn("controller", command, scratch.path()), port)
}

/// Makes the objects.
pub async fn create(client: &Client, fleet: &Fleet, size: Size) {
    let pools = size.nodes / NODES_IN_A_POOL;
    let node = |(at, url): (usize, &String)| {
        let metadata = json!({"name": format!("node-{at}"), "labels": {"pool": format!("pool-{}", at % pools)}});
        json!({"apiVersion": "drover.dev/v1alpha1", "kind": "OllamaNode", "metadata": metadata, "spec": {"url": url}})
    };
    let pull = |at: usize| {
        let selector = json!({"matchLabels": {"pool": format!("pool-{}", at % pools)}});
        let spec = json!({"model": format!("team/model-{}:3b", at / pools), "nodeSelector": selector});
        let metadata = json!({"name": format!("pull-{at}")});
        json!({"apiVersion": "drover.dev/v1alpha1", "kind": "ModelPull", "metadata": metadata, "spec": spec})
    };
    create_all::<OllamaNode>(client, fleet.urls().iter().enumerate().map(node)).await;
    create_all::<ModelPull>(client, (0..size.pulls).map(pull)).await;
}

async fn create_all<K: Kind + Serialize>(client: &Client, objects: impl Iterator<Item = Value>) {
    let api = Api::<K>::namespaced(client.clone(), NAMESPACE);
    let create = |object: Value| {
        let object: K = serde_json::from_value(object).expect("an object of its kind");
        let api = &api;
        async move { api.create(&PostParams::default(), &object).await.map(drop) }
    };
    stream::iter(objects.map(create)).buffer_unordered(CREATORS).try_collect::<()>().await.expect("it can be made");
}

/// Panics with what is missing when it takes too long.
async fn until_all_ready(client: &Client, size: Size, controller: &mut Process) {
    let api = Api::<ModelPull>::namespaced(client.clone(), NAMESPACE);
    let mut changes = pin!(watcher(api, watcher::Config::default()).default_backoff().applied_objects());
    let mut ready = HashSet::new();
    let all = async {
        while ready.len() < size.pulls {
            let pull = changes.next().await.expect("a watch has no end");
            let Ok(pull) = pull else { continue };
            let conditions = pull.conditions().iter();
            let is_ready = conditions.filter(|c| c.type_ == READY).any(|c| c.status == ConditionStatus::True);
            if is_ready {
                ready.insert(pull.name_any())
            } else {
                ready.remove(&pull.name_any())
            };
        }
    };
    let ended = tokio::time::timeout(ALL_READY_WITHIN, all).await;
    assert!(
        ended.is_ok(),
        "{} of {} pulls Ready within {ALL_READY_WITHIN:?}\n{}",
        ready.len(),
        size.pulls,
        controller.diagnosis()
    );
}

/// Waits until nothing was written for a while.
async fn until_quiet(api: &KubeApi) {
    eventually("nothing is written any more", ALL_READY_WITHIN, async || {
        let before = api.marker().await;
        tokio::time::sleep(QUIET).await;
        let writes = api.writes_since(before).await.len();
        if writes == 0 { Ok(()) } else { Err(format!("{writes} writes in {QUIET:?}")) }
    })
    .await;
}

/// Drover's writes; an event counts for the object that it is about.
fn by_object(writes: &[Write]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for write in writes.iter().filter(|write| !(write.verb == "create" && write.resource != "events")) {
        let name = if write.resource == "events" { write.name.split('.').next() } else { None };
        *counts.entry(name.unwrap_or(&write.name).to_owned()).or_default() += 1;
    }
    counts
}
