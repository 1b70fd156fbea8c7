//! Versions: one digest for good, one object each, and no trace left behind.

use crate::{
    bot::serving_fleet,
    fleet::{Fleet, deployment_manifest, pull_manifest, version_manifest},
    namespace::{SOON, condition},
    support::{eventually, gguf::TinyLlama, kube_api::Server},
    world::on_both_apis,
};

on_both_apis! {
    a_version_keeps_its_digest_and_leaves_no_trace,
    a_warm_version_is_in_memory_before_its_first_request,
}

async fn a_version_keeps_its_digest_and_leaves_no_trace(server: Server) {
    let mut fleet =
        Fleet::start(server, &[("drover/alpha", "1", TinyLlama::new(21)), ("drover/alpha", "2", TinyLlama::new(22))])
            .await;
    let (one, two) = (fleet.model("drover/alpha:1"), fleet.model("drover/alpha:2"));
    fleet.apply(&version_manifest("v1.0.0", &one)).await;
    fleet.until("mver", "bot-v1.0.0", "waits for its tag", |s| reason(s) == "TagNotFound").await;
    fleet.apply(&pull_manifest("one", &one)).await;
    fleet.apply(&pull_manifest("two", &two)).await;
    let version = fleet.until("mver", "bot-v1.0.0", "on both nodes", |s| s["readyNodes"] == 2).await;
    let digest = version["status"]["digest"].as_str().expect("a digest").to_owned();
    let alias = version["status"]["alias"].as_str().expect("an alias").to_owned();
    assert_eq!(digest, fleet.registry.manifest_digest("drover/alpha", "1").await);
    fleet.apply(&deployment_manifest("v1.0.0", "1h").replace("spec: {", "spec: {warm: true, ")).await;
    fleet.wait_ready("mdep", "bot").await;
    for node in ["node-1", "node-2"] {
        let warm = |s: &serde_json::Value| s["loaded"] == serde_json::json!(["bot:v1.0.0"]);
        fleet.until("onode", node, "has it in memory before the first request", warm).await;
    }

    // The tag moves on a node; what is served does not.
    let copy = serde_json::json!({"source": two, "destination": one});
    let moved = fleet.http.post(format!("{}/api/copy", fleet.nodes[0].url())).json(&copy).send().await;
    assert!(moved.expect("the node answers").status().is_success());
    fleet.until("mpull", "one", "sees that nodes differ", |s| condition(s, "DigestsDiffer", "True")).await;
    let drifted = |s: &serde_json::Value| condition(s, "Drifted", "True");
    let version = fleet.until("mver", "bot-v1.0.0", "says that the tag moved", drifted).await;
    let said = version["status"]["conditions"].to_string();
    assert!(said.contains("on node-1 (") && !said.contains("node-2"), "names the node: {said}");
    assert!(condition(&version["status"], "Ready", "True"), "it is served all the same");
    assert_eq!(version["status"]["digest"], digest.as_str());
    assert_eq!(version["status"]["readyNodes"], 2);
    fleet.until_version("v1.0.0").await;
    assert_eq!(fleet.chat(0, "bot").await.headers()["x-drover-digest"], digest.as_str());

    // A second object for the same version is refused, and serves nothing.
    let twin = version_manifest("v1.0.0", &two).replace("name: bot-v1.0.0", "name: twin");
    fleet.apply(&twin).await;
    fleet.until("mver", "twin", "refused", |s| reason(s) == "VersionTaken" && s["digest"].is_null()).await;
    // Upper case makes no other version either: both would have one name on the nodes.
    fleet.apply(&version_manifest("v1.0.0-rc.1", &two)).await;
    fleet.until("mver", "bot-v1.0.0-rc.1", "resolved", |s| s["digest"].is_string()).await;
    let shouted = version_manifest("v1.0.0-RC.1", &two).replace("name: bot-v1.0.0-RC.1", "name: shouted");
    fleet.apply(&shouted).await;
    fleet.until("mver", "shouted", "refused", |s| reason(s) == "VersionTaken").await;
    fleet.kubectl(&["delete", "mver/shouted", "mver/bot-v1.0.0-rc.1"]).await;
    // And so is a second deployment of the model.
    fleet.apply(&deployment_manifest("v1.0.0", "1h").replace("name: bot}", "name: bot-2}")).await;
    let refused = fleet.until("mdep", "bot-2", "refused", |s| condition(s, "Accepted", "False")).await;
    assert!(refused["status"]["stable"].is_null());
    fleet.kubectl(&["delete", "mver/twin", "mdep/bot-2"]).await;

    // A version that serves can be deleted: everybody says what is missing, and registered again it serves again.
    fleet.delete("mver", "bot-v1.0.0").await;
    fleet.until("mdep", "bot", "degraded", |s| s["phase"] == "Degraded" && reason(s) == "NoReadyNodes").await;
    let answer = fleet.chat(0, "bot").await;
    assert_eq!(answer.status(), 503);
    let said = answer.text().await.expect("an answer");
    assert!(said.contains("deployment bot") && said.contains("v1.0.0"), "{said}");
    fleet.apply(&version_manifest("v1.0.0", &one).replace("}}}", &format!(", digest: '{digest}'}}}}}}"))).await;
    fleet.wait_ready("mdep", "bot").await;
    fleet.until_version("v1.0.0").await;
    fleet.until("onode", "node-1", "shows what is in memory", |s| s["loaded"].to_string().contains("bot:v1.0.0")).await;
    fleet.delete("mdep", "bot").await;

    // Deleted promptly, with one node away; the other one keeps the bytes under their own name only.
    fleet.nodes[1].kill9();
    fleet.until("onode", "node-2", "away", |s| condition(s, "Ready", "False")).await;
    fleet.delete("mver", "bot-v1.0.0").await;
    assert_eq!(fleet.nodes[0].digest_of(&alias).await, None);
    assert!(fleet.nodes[0].digest_of(&two).await.is_some());
    // The node that was away loses its alias when it is back.
    fleet.nodes[1].restart().await;
    eventually("the alias is gone", SOON, async || match fleet.nodes[1].digest_of(&alias).await {
        None => Ok(()),
        Some(digest) => Err(digest),
    })
    .await;
    assert!(fleet.nodes[1].digest_of(&one).await.is_some(), "the bytes stay under their own name");
}

fn reason(status: &serde_json::Value) -> &str {
    status["conditions"][0]["reason"].as_str().unwrap_or_default()
}

async fn a_warm_version_is_in_memory_before_its_first_request(server: Server) {
    let fleet = serving_fleet(server, "1h").await;
    let fronts = fleet.put_fronts().await;
    for front in &fronts {
        front.break_chats_of(Some("/bot:v1.1.0"));
    }
    fleet.apply(&deployment_manifest("v1.1.0", "1h").replace("spec: {", "spec: {warm: true, ")).await;
    let explained = |s: &serde_json::Value| {
        let said = s["conditions"].to_string();
        ["load v1.1.0 before its first request", "runner process has terminated"].iter().all(|part| said.contains(part))
    };
    let held = fleet.until("mdep", "bot", "says what it waits for", explained).await;
    assert!(held["status"]["canary"].is_null(), "no request goes to what no node could load: {held}");
    assert!(condition(&held["status"], "Ready", "True"), "v1.0.0 serves meanwhile: {held}");

    for front in &fronts {
        front.break_chats_of(None);
    }
    fleet.until("mdep", "bot", "begins", |s| s["canary"]["weight"] == 20).await;
    let mut loaded = 0;
    for node in &fleet.nodes {
        let answer = fleet.http.get(format!("{}/api/ps", node.url())).send().await.expect("the node answers");
        loaded += usize::from(answer.text().await.expect("the whole answer").contains("/bot:v1.1.0"));
    }
    assert!(loaded >= 1, "one node must hold it in memory, as many as minNodes");
}
