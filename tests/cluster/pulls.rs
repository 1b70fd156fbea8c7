//! Pulls onto real nodes from a real registry, over a line that is slow, stalled or refusing.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::Value;

use crate::{
    fleet::{Fleet, pull_manifest},
    namespace::condition,
    support::{eventually, free_port, gguf::TinyLlama, kube_api::Server},
    world::on_both_apis,
};

const MIB: u64 = 1 << 20;
const BIG: u64 = 24 * MIB;

on_both_apis! {
    a_pull_reports_its_progress_survives_a_node_and_happens_once,
    a_label_on_a_node_counts_at_once,
    a_pull_can_be_held_and_called_off,
    every_failure_is_named_with_what_to_do,
    a_stalled_line_is_reported_in_time_and_recovers,
}

async fn a_pull_reports_its_progress_survives_a_node_and_happens_once(server: Server) {
    let mut fleet = Fleet::start(server, &[("drover/big", "1", TinyLlama::new(7).size(BIG))]).await;
    let model = fleet.model("drover/big:1");
    fleet.front.limit_bandwidth(Some(4 * MIB));
    fleet.apply(&pull_manifest("big", &model)).await;
    fleet.apply(&pull_manifest("same", &model)).await;
    let under_way = fleet
        .until("mpull", "big", "bytes are counted on both nodes", |status| {
            both(status, |node| node["percent"].as_i64() > Some(5) && node["remainingSeconds"].as_i64() > Some(0))
        })
        .await;
    let status = &under_way["status"];
    assert_eq!(status["phase"], "Pulling");
    assert_eq!(status["desiredNodes"], 2);
    assert!(condition(status, "Ready", "False") && condition(status, "Reconciling", "True"));
    assert!(both(status, |node| node["totalBytes"].as_u64() >= Some(BIG) && node["bytesPerSecond"].as_i64() > Some(0)));

    // The controller dies in the middle: the next one goes on from the bytes that are there.
    fleet.controller.kill9();
    fleet.controller.restart().await;
    fleet.until("mpull", "big", "goes on", |s| both(s, |node| node["percent"].as_i64() > Some(10))).await;

    // The node dies in the middle and comes back: the pull goes on there, and is whole on the other one meanwhile.
    fleet.nodes[0].kill9();
    fleet.until("mpull", "big", "says that the node is away", |s| node(s, "node-1")["phase"] != "Pulling").await;
    fleet.nodes[0].restart().await;
    fleet.front.limit_bandwidth(None);
    fleet.wait_ready("mpull", "big").await;
    fleet.wait_ready("mpull", "same").await;
    let digest = fleet.registry.manifest_digest("drover/big", "1").await;
    for node in &fleet.nodes {
        assert_eq!(node.digest_of(&model).await.as_ref(), Some(&digest));
    }
    let done = fleet.get("mpull", "big").await;
    assert_eq!(done["status"]["progress"], 100);
    assert_eq!(done["status"]["resolved"]["digest"], digest.as_str());
    // Once for each node; the interrupted one fetches some of it again.
    let fetched = fleet.front.blob_bytes();
    assert!(fetched < 3 * BIG + 2 * MIB, "two objects want it, and {fetched} bytes were fetched for {BIG}");

    // What is there needs no pull.
    let (before, start) = (fleet.front.served(), Instant::now());
    fleet.apply(&pull_manifest("again", &model)).await;
    fleet.wait_ready("mpull", "again").await;
    let again = fleet.get("mpull", "again").await;
    let took = written_after(&again);
    assert!(
        took < Duration::from_secs(2),
        "Ready {took:?} after its creation (times have whole seconds), seen {:?}",
        start.elapsed()
    );
    assert_eq!(fleet.front.served(), before, "the registry was asked");
}

async fn a_label_on_a_node_counts_at_once(server: Server) {
    let fleet = Fleet::start(server, &[("drover/alpha", "1", TinyLlama::new(1))]).await;
    let model = fleet.model("drover/alpha:1");
    let selector = "nodeSelector: {matchLabels: {tier: gpu}, matchExpressions: [{key: old, operator: DoesNotExist}]}";
    fleet
        .apply(&pull_manifest("picky", &model).replace("insecure: true", &format!("insecure: true, {selector}")))
        .await;
    fleet.until("mpull", "picky", "no node is picked", |s| s["conditions"][0]["reason"] == "NoNodes").await;

    fleet.patch("onode", "node-2", r#"{"metadata": {"labels": {"tier": "gpu"}}}"#).await;
    fleet.wait_ready("mpull", "picky").await;
    let status = &fleet.get("mpull", "picky").await["status"];
    assert_eq!((&status["desiredNodes"], &status["nodes"][0]["node"]), (&1.into(), &"node-2".into()));

    fleet.patch("onode", "node-1", r#"{"metadata": {"labels": {"tier": "gpu"}}}"#).await;
    fleet.until("mpull", "picky", "both nodes have it", |s| s["readyNodes"] == 2 && s["desiredNodes"] == 2).await;
    fleet.patch("onode", "node-1", r#"{"metadata": {"labels": {"tier": null}}}"#).await;
    fleet.until("mpull", "picky", "a node without the label is left out", |s| s["desiredNodes"] == 1).await;
    fleet.patch("onode", "node-2", r#"{"metadata": {"labels": {"old": "yes"}}}"#).await;
    fleet.until("mpull", "picky", "a node with the other label, too", |s| s["desiredNodes"] == 0).await;
}

async fn a_pull_can_be_held_and_called_off(server: Server) {
    let models = [("drover/big", "1", TinyLlama::new(8).size(BIG)), ("drover/big", "2", TinyLlama::new(9).size(BIG))];
    let fleet = Fleet::start(server, &models).await;
    fleet.front.limit_bandwidth(Some(MIB));
    let under_way = |s: &Value| s["phase"] == "Pulling" && s["progress"].as_i64() > Some(0);
    fleet.apply(&pull_manifest("big", &fleet.model("drover/big:1"))).await;
    fleet.until("mpull", "big", "under way", under_way).await;
    fleet.apply(&pull_manifest("next", &fleet.model("drover/big:2"))).await;
    fleet.until("mpull", "next", "waits for its turn", |s| message(s).contains("another pull on this node")).await;
    fleet.patch("mpull", "big", r#"{"spec": {"suspend": true}}"#).await;
    fleet.until("mpull", "big", "held", |s| s["phase"] == "Suspended" && !condition(s, "Stalled", "True")).await;
    fleet.until("mpull", "next", "under way", under_way).await;
    fleet.patch("mpull", "next", r#"{"spec": {"suspend": true}}"#).await;
    line_is_quiet(&fleet).await;
    fleet.patch("mpull", "big", r#"{"spec": {"suspend": false}}"#).await;
    fleet.until("mpull", "big", "under way again", |s| s["phase"] == "Pulling").await;
    fleet.delete("mpull", "big").await;
    line_is_quiet(&fleet).await;
}

async fn every_failure_is_named_with_what_to_do(server: Server) {
    let fleet =
        Fleet::start(server, &[("drover/alpha", "1", TinyLlama::new(9)), ("secret/alpha", "1", TinyLlama::new(9))])
            .await;
    fleet.front.protect("secret/alpha", "Basic bmVpbjpuZWlu");
    let nowhere = format!("127.0.0.1:{}/drover/alpha:1", free_port());
    let plain = format!("{}/drover/alpha:1", fleet.registry.address());
    for (name, model, says) in [
        ("absent", fleet.model("drover/absent:1"), "check the spelling"),
        ("unreachable", nowhere, "check the registry's host name"),
        ("plain", plain, "sends Location"),
        ("secret", fleet.model("secret/alpha:1"), "wants a login"),
    ] {
        fleet.apply(&pull_manifest(name, &model)).await;
        failed(&fleet, name, says).await;
    }
    // Without `insecure` Ollama speaks https to it.
    let secure = pull_manifest("scheme", &fleet.model("drover/alpha:1")).replace("insecure: true", "insecure: false");
    fleet.apply(&secure).await;
    failed(&fleet, "scheme", "spec.insecure").await;
    fleet.patch("mpull", "scheme", r#"{"spec": {"insecure": true}}"#).await;
    fleet.wait_ready("mpull", "scheme").await;

    // A pin that differs is a fault, not something to overwrite.
    let other = format!("sha256:{}", "0".repeat(64));
    fleet.patch("mpull", "scheme", &format!(r#"{{"spec": {{"digest": "{other}"}}}}"#)).await;
    failed(&fleet, "scheme", "the pin is").await;
    let digest = fleet.registry.manifest_digest("drover/alpha", "1").await;
    fleet.patch("mpull", "scheme", &format!(r#"{{"spec": {{"digest": "{digest}"}}}}"#)).await;
    fleet.wait_ready("mpull", "scheme").await;

    let nobody = "\nspec: {model: 'a:1', nodeSelector: {matchLabels: {tier: none}}}\n";
    fleet.apply(&format!("apiVersion: drover.dev/v1alpha1\nkind: ModelPull\nmetadata: {{name: nobody}}{nobody}")).await;
    fleet.until("mpull", "nobody", "no nodes", |s| message(s).contains("picks no OllamaNode")).await;
}

async fn a_stalled_line_is_reported_in_time_and_recovers(server: Server) {
    let fleet = Fleet::start(server, &[("drover/alpha", "1", TinyLlama::new(10))]).await;
    fleet.front.stall(true);
    let pull = pull_manifest("slow", &fleet.model("drover/alpha:1")).replace("insecure", "timeout: 3s, insecure");
    fleet.apply(&pull).await;
    let late = fleet.until("mpull", "slow", "late", |s| condition(s, "Stalled", "True")).await;
    let stalled = &late["status"]["conditions"].as_array().expect("conditions")[1];
    assert_eq!(stalled["reason"], "TimedOut", "{stalled}");
    assert!(stalled["message"].as_str().is_some_and(|m| m.contains("not Ready within 3s")), "{stalled}");
    fleet.front.stall(false);
    // As Ollama does, a part without its first byte is given up after 30 s only: a refusal ends it sooner.
    fleet.front.fail_with(Some(StatusCode::SERVICE_UNAVAILABLE));
    fleet.front.fail_with(None);
    fleet.wait_ready("mpull", "slow").await;
    assert!(!condition(&fleet.get("mpull", "slow").await["status"], "Stalled", "True"));
}

async fn failed(fleet: &Fleet, name: &str, says: &str) {
    let what = format!("failed and says {says:?}");
    fleet
        .until("mpull", name, &what, |s| {
            s["phase"] == "Failed"
                && condition(s, "Ready", "False")
                && condition(s, "Stalled", "True")
                && message(s).contains(says)
        })
        .await;
}

/// No byte leaves the registry any more.
async fn line_is_quiet(fleet: &Fleet) {
    let mut before = fleet.front.blob_bytes();
    eventually("nothing is fetched for a second", Duration::from_secs(20), async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = fleet.front.blob_bytes();
        let moved = now - std::mem::replace(&mut before, now);
        if moved == 0 { Ok(()) } else { Err(format!("{moved} bytes more")) }
    })
    .await;
}

fn message(status: &Value) -> &str {
    status["conditions"][0]["message"].as_str().unwrap_or_default()
}

fn node<'a>(status: &'a Value, name: &str) -> &'a Value {
    let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    nodes.iter().find(|node| node["node"] == name).unwrap_or(&Value::Null)
}

fn both(status: &Value, holds: impl Fn(&Value) -> bool) -> bool {
    ["node-1", "node-2"].iter().all(|name| holds(node(status, name)))
}

/// From the creation of an object to its Ready.
fn written_after(object: &Value) -> Duration {
    let time = |value: &Value| -> jiff::Timestamp { value.as_str().expect("a time").parse().expect("RFC 3339") };
    let created = time(&object["metadata"]["creationTimestamp"]);
    let ready = time(&object["status"]["conditions"][0]["lastTransitionTime"]);
    Duration::try_from(ready.duration_since(created)).unwrap_or_default()
}
