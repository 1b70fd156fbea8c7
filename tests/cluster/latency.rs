//! Profiles by latency: each gateway goes by what it measured, and the status shows what they chose.

use serde_json::json;

use crate::{
    fleet::{Fleet, pull_manifest},
    namespace::SOON,
    support::{eventually, gguf::TinyLlama, kube_api::Server},
    world::on_both_apis,
};

on_both_apis! {
    the_status_shows_what_the_gateways_chose_and_when_they_differ,
}

/// Of two as big, `chatty` goes first by its name; it says far more than `terse`.
const MANIFEST: &str = r#"
apiVersion: drover.dev/v1alpha1
kind: ModelCatalog
metadata: {name: lengths}
spec: {entries: [{pattern: "chatty*", options: {num_predict: 300}}]}
---
apiVersion: drover.dev/v1alpha1
kind: RoutingProfile
metadata: {name: soon}
spec: {capabilities: [chat], objective: latency}
"#;

/// The model that answers at a gateway.
async fn answers(fleet: &Fleet, gateway: usize, name: &str) -> Result<String, String> {
    let body = json!({ "model": name, "messages": [{ "role": "user", "content": "?" }], "stream": false });
    let request = fleet.http.post(format!("{}/api/chat", fleet.gateway_urls[gateway])).json(&body);
    let answer = request.send().await.expect("an answer");
    let model = answer.headers().get("x-drover-model").map(|model| model.to_str().expect("text").to_owned());
    if answer.status() == 200 { model.ok_or_else(String::new) } else { Err(answer.text().await.unwrap_or_default()) }
}

async fn until_answers(fleet: &Fleet, gateway: usize, name: &str, model: &str) {
    eventually(&format!("{model} answers for {name} at gateway {gateway}"), SOON, async || {
        let found = answers(fleet, gateway, name).await?;
        if found == model { Ok(()) } else { Err(found) }
    })
    .await;
}

/// Waits until the status has this choice and its message ends with this.
async fn until_shown(fleet: &Fleet, model: &str, words: &str) {
    fleet
        .until("rprof", "soon", words, |status| {
            let ready = status["conditions"].as_array().and_then(|all| all.iter().find(|one| one["type"] == "Ready"));
            let message = ready.and_then(|ready| ready["message"].as_str()).unwrap_or_default();
            status["chosen"] == model && message.ends_with(words)
        })
        .await;
}

async fn the_status_shows_what_the_gateways_chose_and_when_they_differ(server: Server) {
    let models = [
        ("drover/terse", "1", TinyLlama::new(1).says("yes")),
        ("drover/chatty", "1", TinyLlama::new(2).says("on and").endlessly()),
    ];
    let fleet = Fleet::start(server, &models).await;
    let (terse, chatty) = (fleet.model("drover/terse:1"), fleet.model("drover/chatty:1"));
    for (name, model) in [("terse", &terse), ("chatty", &chatty)] {
        fleet.apply(&pull_manifest(name, model)).await;
        fleet.wait_ready("mpull", name).await;
    }
    let marker = fleet.api.marker().await;
    fleet.apply(MANIFEST).await;
    until_shown(&fleet, &chatty, "is the smallest of 2 that suit").await;
    for gateway in [0, 1] {
        until_answers(&fleet, gateway, "soon", &chatty).await;
    }
    // Asked by its name, the other one turns out to be faster: so far one gateway knows.
    let differ = format!("the gateways differ, each by what it measured: others choose {terse}");
    for (gateway, shown, words) in [(0, &chatty, differ.as_str()), (1, &terse, "is the fastest of 2 that suit")] {
        until_answers(&fleet, gateway, &terse, &terse).await;
        until_answers(&fleet, gateway, "soon", &terse).await;
        until_shown(&fleet, shown, words).await;
    }
    let writes = fleet.writes_since(marker).await;
    let statuses = writes.iter().filter(|write| write.resource == "routingprofiles/status").count();
    assert!((3..=5).contains(&statuses), "written when the choice changed, not when it was asked for: {writes:?}");
    let listed = fleet.kubectl(&["get", "rprof", "soon"]).await;
    assert!(listed.contains(&terse), "{listed}");
}
