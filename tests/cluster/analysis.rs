//! Canaries that are compared with what they shall replace, under load through two gateways.

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    fleet::{Fleet, pull_manifest, version_manifest},
    support::{gguf::TinyLlama, kube_api::Server},
    world::on_both_apis,
};

/// Requests at once through each gateway.
const CALLERS: usize = 2;

on_both_apis! {
    a_slower_canary_is_rolled_back_by_evidence_and_one_as_good_goes_live,
    a_slower_version_is_rejected_by_copies_of_requests_and_one_as_good_gets_requests_after_them,
}

/// The second one is far bigger and says far more, and nothing else is wrong with it.
fn models() -> [(&'static str, &'static str, TinyLlama); 3] {
    let long: Vec<String> = (0..60).map(|word| format!("word{word}")).collect();
    let bigger = TinyLlama::new(2).says(&long.join(" ")).size(30_000_000);
    let [one, three] = [(1, "this is one"), (3, "that is three")].map(|(seed, says)| TinyLlama::new(seed).says(says));
    [("drover/alpha", "1", one), ("drover/alpha", "2", bigger), ("drover/alpha", "3", three)]
}

/// With more fields of the canary.
fn manifest(version: &str, canary: &str) -> String {
    format!(
        "apiVersion: drover.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {{name: bot}}\n\
         spec:\n  model: bot\n  version: {version}\n  strategy:\n    canary:\n      \
         steps: [{{weight: 20, duration: 1s}}, {{weight: 50, duration: 1s}}]\n      {canary}\n      \
         analysis:\n        interval: 1s\n        minRequests: 40\n        \
         metrics: [{{name: errorRate, maxIncrease: 0.05}}, {{name: latencyP95, maxRatio: 2}}]\n"
    )
}

/// A fleet on which v1.0.0 serves, and the other two wait.
async fn serving(server: Server) -> Fleet {
    let fleet = Fleet::start(server, &models()).await;
    for tag in 1..=3 {
        let model = fleet.model(&format!("drover/alpha:{tag}"));
        fleet.apply(&pull_manifest(&format!("alpha-{tag}"), &model)).await;
        fleet.apply(&version_manifest(&format!("v1.{}.0", tag - 1), &model)).await;
    }
    fleet.apply(&manifest("v1.0.0", "")).await;
    for version in ["bot-v1.0.0", "bot-v1.1.0", "bot-v1.2.0"] {
        fleet.until("mver", version, "on both nodes", |s| s["readyNodes"] == 2).await;
    }
    fleet.wait_ready("modeldeployment", "bot").await;
    fleet.until_version("v1.0.0").await;
    fleet
}

async fn a_slower_canary_is_rolled_back_by_evidence_and_one_as_good_goes_live(server: Server) {
    let fleet = serving(server).await;
    let (stop, stopped) = watch::channel(false);
    let story = async {
        fleet.apply(&manifest("v1.1.0", "")).await;
        let back = fleet.until("mdep", "bot", "taken back", |s| s["lastRollback"]["effectiveAt"].is_string()).await;
        slower_was_the_reason(&back["status"]);
        fleet.apply(&manifest("v1.2.0", "")).await;
        let live = fleet.until("mdep", "bot", "v1.2.0 has all", |s| s["stable"]["version"] == "v1.2.0").await;
        every_step_was_measured(&live["status"]);
        stop.send_replace(true);
    };
    let callers = (0..2 * CALLERS).map(|caller| call(&fleet, caller % 2, stopped.clone()));
    tokio::join!(story, join_all(callers));
}

async fn a_slower_version_is_rejected_by_copies_of_requests_and_one_as_good_gets_requests_after_them(server: Server) {
    let fleet = serving(server).await;
    let copies = "shadow: 50\n      shadowDuration: 1s";
    let (stop, stopped) = watch::channel(false);
    let story = async {
        fleet.apply(&manifest("v1.1.0", copies)).await;
        let back = fleet.until("mdep", "bot", "rejected", |s| s["rejected"]["version"] == "v1.1.0").await;
        slower_was_the_reason(&back["status"]);
        assert_eq!(back["status"]["analysis"]["measurements"][0]["shadow"], true, "{back}");
        fleet.apply(&manifest("v1.2.0", copies)).await;
        let shadow = fleet.until("mdep", "bot", "copies for v1.2.0", |s| s["canary"]["shadow"] == 50).await;
        let [stable, canary] = [&shadow["status"]["stable"], &shadow["status"]["canary"]];
        assert_eq!([&stable["weight"], &canary["weight"]], [&json!(100), &json!(0)], "{shadow}");
        let step = fleet.until("mdep", "bot", "v1.2.0 has requests", |s| s["canary"]["weight"] == 20).await;
        assert!(step["status"]["canary"]["shadow"].is_null(), "{step}");
        stop.send_replace(true);
    };
    let callers = (0..2 * CALLERS).map(|caller| call(&fleet, caller % 2, stopped.clone()));
    let ((), met) = tokio::join!(story, join_all(callers));
    assert!(met.iter().flatten().all(|version| version != "v1.1.0"), "a caller met the version that was rejected");
    let runs = fleet.http.get(format!("{}/drover/v1/runs?version=v1.1.0", fleet.gateway_urls[0])).send().await;
    let runs: Value = runs.expect("the gateway answers").json().await.expect("JSON");
    assert_eq!(runs["items"], json!([]), "a copy is no run");
}

/// One request after another, until the story has ended; which versions answered.
async fn call(fleet: &Fleet, gateway: usize, stopped: watch::Receiver<bool>) -> BTreeSet<String> {
    let body = json!({ "model": "bot", "prompt": "Which one are you?", "stream": false });
    let mut met = BTreeSet::new();
    while !*stopped.borrow() {
        let request = fleet.http.post(format!("{}/api/generate", fleet.gateway_urls[gateway])).json(&body);
        let answer = request.send().await.expect("the gateway answers");
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap_or_default());
        let version = answer.headers()["x-drover-version"].to_str().expect("text").to_owned();
        met.insert(version);
        answer.text().await.expect("a whole answer");
    }
    met
}

fn slower_was_the_reason(status: &Value) {
    assert_eq!(status["rejected"]["version"], "v1.1.0", "{status}");
    let reason = status["rejected"]["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("latencyP95 at most 2 × stable's: "), "{reason}");
    assert_eq!(status["analysis"]["measurements"][0]["verdict"], "Failed", "{status}");
    assert_eq!(
        [&status["stable"]["version"], &status["stable"]["weight"]],
        [&json!("v1.0.0"), &json!(100)],
        "{status}"
    );
}

fn every_step_was_measured(status: &Value) {
    let measurements = status["analysis"]["measurements"].as_array().expect("a list");
    let of_canary = |step: u64| -> u64 {
        let of_step = measurements.iter().filter(|measurement| measurement["step"] == step);
        of_step.filter_map(|measurement| measurement["canaryAttempts"].as_u64()).sum()
    };
    assert!(measurements.len() == 10 || of_canary(0) >= 40, "{status}");
    assert!(of_canary(1) >= 40, "{status}");
    assert!(measurements.iter().all(|measurement| measurement["verdict"] != "Failed"), "{status}");
}
