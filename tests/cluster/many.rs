//! Many rollouts at once.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    bot::models,
    fleet::{Fleet, pull_manifest},
    namespace::SOON,
    support::{eventually, kube_api::Server},
    world::on_both_apis,
};

const DEPLOYMENTS: usize = 50;
const VERSIONS: [&str; 2] = ["v1.0.0", "v1.1.0"];
/// The slowest of so many on a busy machine; usual is a tenth of a second.
const EFFECTIVE_WITHIN_MS: i128 = 10_000;

on_both_apis! {
    fifty_deployments_go_live_and_back_at_once,
}

async fn fifty_deployments_go_live_and_back_at_once(server: Server) {
    let fleet = Fleet::start(server, &models()).await;
    for (version, tag) in VERSIONS.iter().zip(["1", "2"]) {
        let model = fleet.model(&format!("drover/alpha:{tag}"));
        fleet.apply(&pull_manifest(&format!("alpha-{tag}"), &model)).await;
        for number in 0..DEPLOYMENTS {
            fleet.create("mver", &version_of(number, version, &model)).await;
        }
    }
    fleet.apply(&manifests(VERSIONS[0])).await;
    all(&fleet, "serve the first version", |s| is_live(s, VERSIONS[0])).await;
    let held = |version: &Value| version["status"]["readyNodes"] == 2;
    eventually("every version is on both nodes", SOON, async || lacking(&fleet, "mver", held).await).await;

    fleet.apply(&manifests(VERSIONS[1])).await;
    let live = all(&fleet, "serve the second version", |s| is_live(s, VERSIONS[1])).await;
    for (name, status) in &live {
        let history = status["history"].as_array().expect("a list");
        let versions: Vec<&Value> = history.iter().map(|entry| &entry["version"]).collect();
        assert_eq!(versions, ["v1.1.0", "v1.0.0"], "{name} went live once");
    }
    fleet.apply(&manifests(VERSIONS[0])).await;
    let back =
        all(&fleet, "are back", |s| is_live(s, VERSIONS[0]) && s["lastRollback"]["effectiveAt"].is_string()).await;
    for (name, status) in &back {
        let took = took(&status["lastRollback"]);
        assert!(took < EFFECTIVE_WITHIN_MS, "{name}: decided to effective took {took} ms");
    }
    for number in 0..DEPLOYMENTS {
        let answer = fleet.chat(number % 2, &format!("bot-{number}")).await;
        assert_eq!(answer.headers()["x-drover-version"], VERSIONS[0]);
    }
}

fn version_of(number: usize, version: &str, tag: &str) -> Value {
    json!({
        "apiVersion": "drover.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": format!("bot-{number}-{version}")},
        "spec": {"model": format!("bot-{number}"), "version": version, "source": {"ollama": {"tag": tag}}},
    })
}

fn manifests(version: &str) -> String {
    let one = |number: usize| {
        let steps = json!([{"weight": 20, "duration": "1s"}, {"weight": 50, "duration": "1s"}]);
        json!({
            "apiVersion": "drover.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": format!("bot-{number}")},
            "spec": {"model": format!("bot-{number}"), "version": version, "strategy": {"canary": {"steps": steps}}},
        })
    };
    json!({"apiVersion": "v1", "kind": "List", "items": (0..DEPLOYMENTS).map(one).collect::<Vec<_>>()}).to_string()
}

fn is_live(status: &Value, version: &str) -> bool {
    status["phase"] == "Healthy" && status["stable"]["version"] == version && status["stable"]["weight"] == 100
}

/// Waits until the status of every deployment satisfies `holds`; every status by name.
async fn all(fleet: &Fleet, what: &str, holds: impl Fn(&Value) -> bool) -> BTreeMap<String, Value> {
    let what = format!("all {what}");
    let hold = async || lacking(fleet, "mdep", |object| holds(&object["status"])).await;
    let named = |object: Value| (object["metadata"]["name"].to_string(), object["status"].clone());
    eventually(&what, SOON, hold).await.into_iter().map(named).collect()
}

/// All objects of a kind, if all of them satisfy `holds`; else the first one that doesn't.
async fn lacking(fleet: &Fleet, kind: &str, holds: impl Fn(&Value) -> bool) -> Result<Vec<Value>, String> {
    let text = fleet.kubectl(&["get", kind, "-o", "json"]).await;
    let list: Value = serde_json::from_str(&text).expect("JSON");
    let objects = list["items"].as_array().expect("items");
    match objects.iter().find(|object| !holds(object)) {
        Some(object) => Err(format!("{}: {}", object["metadata"]["name"], object["status"])),
        None => Ok(objects.clone()),
    }
}

fn took(rollback: &Value) -> i128 {
    let time = |field: &str| -> Timestamp { rollback[field].as_str().expect("a time").parse().expect("RFC 3339") };
    time("effectiveAt").duration_since(time("decidedAt")).as_millis()
}
