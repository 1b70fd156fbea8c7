//! Versions that run the same weights differently, on fewer nodes than they need.

use serde_json::Value;

use crate::{
    fleet::{Fleet, deployment_manifest, pull_manifest, version_manifest},
    namespace::condition,
    support::{gguf::TinyLlama, kube_api::Server},
    world::on_both_apis,
};

on_both_apis! { too_few_nodes_for_two_ways_to_run_a_model_are_told_until_there_are_more }

async fn too_few_nodes_for_two_ways_to_run_a_model_are_told_until_there_are_more(server: Server) {
    let fleet = Fleet::start(server, &[("drover/alpha", "1", TinyLlama::new(81))]).await;
    let model = fleet.model("drover/alpha:1");
    fleet.apply(&pull_manifest("alpha", &model)).await;
    for (version, window) in [("v1.0.0", 512), ("v1.1.0", 1024)] {
        let parameters = format!("parameters: {{num_ctx: {window}}}, source");
        fleet.apply(&version_manifest(version, &model).replace("source", &parameters)).await;
        fleet.until("mver", &format!("bot-{version}"), "on both nodes", |s| s["readyNodes"] == 2).await;
    }
    fleet.apply(&deployment_manifest("v1.0.0", "1h")).await;
    fleet.wait_ready("mdep", "bot").await;

    fleet.patch("onode", "node-2", r#"{"spec": {"maintenance": true}}"#).await;
    fleet.until("onode", "node-2", "drained", |s| condition(s, "Ready", "False")).await;
    fleet.apply(&deployment_manifest("v1.1.0", "1h")).await;
    let goes_on = |s: &Value| condition(s, "RunnersNotApart", "True") && s["canary"]["weight"] == 20;
    let cramped = fleet.until("mdep", "bot", "a canary, and too few nodes", goes_on).await;
    let said = cramped["status"]["conditions"].to_string();
    for words in
        ["v1.0.0 (num_ctx 512)", "v1.1.0 (num_ctx 1024)", "1 node holds bot", "node-1 may load", "one more node"]
    {
        assert!(said.contains(words), "{said}");
    }

    fleet.patch("onode", "node-2", r#"{"spec": {"maintenance": false}}"#).await;
    fleet.until("mdep", "bot", "enough", |s| !condition(s, "RunnersNotApart", "True")).await;
}
