//! Models pulled and removed through gateways, with Ollama's own command line and without a mirror.

use std::process::Stdio;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    fleet::{Fleet, pull_manifest},
    namespace::SOON,
    support::{eventually, gguf::TinyLlama, kube_api::Server, models::publish, stack::program},
    world::on_both_apis,
};

on_both_apis! { ollamas_command_line_changes_what_the_fleet_holds_where_that_is_allowed }

const ALLOWED: [(&str, &str); 1] = [("DROVER_MODEL_OPERATIONS", "true")];

async fn ollamas_command_line_changes_what_the_fleet_holds_where_that_is_allowed(server: Server) {
    let mut fleet =
        Fleet::start(server, &[("drover/alpha", "1", TinyLlama::new(1)), ("drover/beta", "1", TinyLlama::new(2))])
            .await;
    let (alpha, beta) = (fleet.model("drover/alpha:1"), fleet.model("drover/beta:1"));
    let refusal = ollama(&fleet, 0, &["pull", "--insecure", &alpha]).await.expect_err("not allowed");
    assert!(refusal.contains("set model-operations"), "{refusal}");
    for gateway in &mut fleet.gateways {
        gateway.restart_with(&ALLOWED).await;
    }

    // Two at once, through two gateways, are one.
    let pull = ["pull", "--insecure", &alpha];
    let (first, second) = tokio::join!(ollama(&fleet, 0, &pull), ollama(&fleet, 1, &pull));
    assert!(first.expect("pulled").contains("success") && second.expect("pulled").contains("success"));
    let pulls = objects(&fleet).await;
    let [pull] = &pulls[..] else { panic!("{pulls:?}") };
    assert_eq!((&pull["spec"]["model"], &pull["spec"]["deletionPolicy"]), (&json!(alpha), &json!("Delete")));
    assert_eq!(pull["metadata"]["labels"]["drover.dev/applied-by"], "gateway");
    fleet.until_served(&alpha).await;

    keys_decide_too(&fleet, &alpha).await;

    // What Git declares is waited for, and stays.
    fleet.apply(&pull_manifest("declared", &beta)).await;
    assert!(ollama(&fleet, 1, &["pull", &beta]).await.expect("pulled").contains("success"));
    let refusal = ollama(&fleet, 1, &["rm", &beta]).await.expect_err("it is declared");
    assert!(refusal.contains("ModelPull declared"), "{refusal}");
    assert_eq!(objects(&fleet).await.len(), 2);

    tags_that_moved_are_followed_except_where_that_was_declared(&fleet, &alpha, &beta).await;

    // A node that is away holds nobody up.
    ollama(&fleet, 1, &["rm", &alpha]).await.expect("removed");
    assert!(!holds(&fleet, 0, &alpha).await && !holds(&fleet, 1, &alpha).await);
    fleet.nodes[1].kill9();
    fleet.until("onode", "node-2", "away", |status| status["stale"] == true).await;
    let told = ollama(&fleet, 0, &["pull", "--insecure", &alpha]).await.expect("pulled");
    assert!(told.contains("1 of 2 nodes have it; node-2 will once ready again"), "{told}");
    fleet.nodes[1].restart().await;
    eventually("the other one gets it, too", SOON, async || {
        if holds(&fleet, 1, &alpha).await { Ok(()) } else { Err("not yet") }
    })
    .await;
}

/// As Ollama's own `pull` on one server does.
async fn tags_that_moved_are_followed_except_where_that_was_declared(fleet: &Fleet, alpha: &str, beta: &str) {
    let kept = fleet.registry.manifest_digest("drover/beta", "1").await;
    let moved = [("drover/alpha", "1", TinyLlama::new(3)), ("drover/beta", "1", TinyLlama::new(4))];
    publish(&fleet.registry, &fleet.nodes[0], &moved).await;
    let alpha_now = fleet.registry.manifest_digest("drover/alpha", "1").await;
    let beta_now = fleet.registry.manifest_digest("drover/beta", "1").await;
    // One by two callers, the other one by two, too.
    let (pull, other) = (["pull", "--insecure", alpha], ["pull", beta]);
    let told = tokio::join!(
        ollama(fleet, 0, &pull),
        ollama(fleet, 1, &pull),
        ollama(fleet, 0, &other),
        ollama(fleet, 1, &other)
    );
    for told in [told.0, told.1] {
        assert!(told.expect("pulled").contains("success"));
    }
    for told in [told.2, told.3].map(|told| told.expect("there")) {
        assert!(told.contains("success") && told.contains("ModelPull declared to say"), "{told}");
        assert!(told.contains("kubectl annotate modelpull declared --overwrite drover.dev/refresh="), "{told}");
    }
    for node in &fleet.nodes {
        assert_eq!(node.digest_of(alpha).await.as_ref(), Some(&alpha_now), "{}", node.url());
        assert_eq!(node.digest_of(beta).await.as_ref(), Some(&kept), "what was declared stays");
    }
    // What cannot be looked up is told, and everything stays.
    fleet.front.fail_with(Some(StatusCode::SERVICE_UNAVAILABLE));
    let refusal = ollama(fleet, 1, &pull).await.expect_err("nobody knows");
    assert!(refusal.contains("the tag could not be looked up again: node-"), "{refusal}");
    assert_eq!(fleet.nodes[0].digest_of(alpha).await.as_ref(), Some(&alpha_now));
    fleet.front.fail_with(None);
    // What is said to do for the declared one is good.
    let advice = ["annotate", "modelpull", "declared", "--overwrite", "drover.dev/refresh=1", "-n", &fleet.name];
    fleet.api.kubectl_ok(&advice, None).await;
    let is_over = |status: &Value| status["refresh"]["id"] == "1" && status["refresh"]["pending"].is_null();
    let pull = fleet.until("mpull", "declared", "looked up", is_over).await;
    assert_eq!(pull["status"]["resolved"]["digest"], beta_now.as_str());
    for node in &fleet.nodes {
        assert_eq!(node.digest_of(beta).await.as_ref(), Some(&beta_now), "{}", node.url());
    }
}

/// A key needs the right to change models, and has it for its own models alone.
async fn keys_decide_too(fleet: &Fleet, model: &str) {
    for (name, more, words) in [
        ("plain", &[][..], "spec.allowModelOperations"),
        ("others", &["--allow-model-operations", "--models", "other:*"], "key others may not be used for"),
        ("full", &["--allow-model-operations", "--models", model], "success"),
    ] {
        let key = fleet.drover(&[&["keys", "create", name, "-n", &fleet.name], more].concat()).await.expect("made");
        eventually(&format!("key {name}: {words}"), SOON, async || {
            let request = fleet.http.post(format!("{}/api/pull", fleet.gateway_urls[0])).bearer_auth(key.trim());
            let answer = request.json(&json!({ "model": model, "stream": false })).send().await.expect("an answer");
            let (status, text) = (answer.status(), answer.text().await.expect("text"));
            let expected = if name == "full" { 200 } else { 403 };
            // A key that isn't known yet is nobody's, and nobody needs one here.
            if status == expected && text.contains(words) { Ok(()) } else { Err(text) }
        })
        .await;
    }
}

async fn objects(fleet: &Fleet) -> Vec<Value> {
    let list = fleet.api.kubectl_ok(&["get", "mpull", "-n", &fleet.name, "-o", "json"], None).await;
    let list: Value = serde_json::from_str(&list).expect("JSON");
    list["items"].as_array().expect("items").clone()
}

async fn holds(fleet: &Fleet, node: usize, model: &str) -> bool {
    fleet.nodes[node].digest_of(model).await.is_some()
}

/// What `ollama` prints, or why it fails, with a gateway for its server.
async fn ollama(fleet: &Fleet, gateway: usize, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program("ollama"));
    command.args(arguments).env("OLLAMA_HOST", &fleet.gateway_urls[gateway]).env("NO_PROXY", "*");
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("ollama runs");
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(told.into_owned()) } else { Err(told.into_owned()) }
}
