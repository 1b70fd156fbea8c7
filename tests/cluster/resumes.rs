//! Rollouts that are disturbed at each of their states, and end as if nothing had been.

use serde_json::Value;

use crate::{
    bot::{by_hand, models, no_request_failed, serving_fleet, trickles},
    fleet::{Fleet, pull_manifest, version_manifest},
    namespace::SOON,
    support::{eventually, gguf::TinyLlama, kube_api::Server, models::publish},
    world::on_both_apis,
};

on_both_apis! {
    a_controller_that_is_killed_at_any_state_goes_on_where_it_was,
    a_tag_that_moves_upstream_during_a_rollout_changes_nothing_that_is_served,
}

async fn a_controller_that_is_killed_at_any_state_goes_on_where_it_was(server: Server) {
    let mut fleet = Fleet::start(server, &models()).await;
    goes_live_though_it_is_killed(&mut fleet).await;
    let trickles = trickles(&fleet);
    takes_each_step_once(&mut fleet).await;
    finishes_a_rollback(&mut fleet).await;
    goes_back_from_wherever_it_waits(&mut fleet).await;
    let status = fleet.get("mdep", "bot").await["status"].clone();
    // v1.0.0, 20, 50 and 100 % of v1.1.0, back; and twice 20 % and back.
    assert_eq!(status["revision"], 9, "nothing was done twice: {status}");
    no_request_failed(trickles).await;
}

async fn kill_and_restart(fleet: &mut Fleet) {
    fleet.controller.kill9();
    fleet.controller.restart().await;
}

/// Killed while nodes pull, and between the digest of a version and its alias on the nodes.
async fn goes_live_though_it_is_killed(fleet: &mut Fleet) {
    fleet.front.limit_bandwidth(Some(200_000));
    let tags = [1, 2].map(|tag| fleet.model(&format!("drover/alpha:{tag}")));
    for (number, tag) in tags.iter().enumerate() {
        fleet.apply(&pull_manifest(&format!("alpha-{}", number + 1), tag)).await;
        fleet.apply(&version_manifest(&format!("v1.{number}.0"), tag)).await;
    }
    fleet.apply(&by_hand("v1.0.0")).await;
    fleet.until("mpull", "alpha-1", "under way", |s| s["progress"].as_i64() > Some(0)).await;
    kill_and_restart(fleet).await;
    fleet.front.limit_bandwidth(None);
    fleet.until("mver", "bot-v1.0.0", "has its digest", |s| s["digest"].is_string()).await;
    kill_and_restart(fleet).await;
    for version in ["bot-v1.0.0", "bot-v1.1.0"] {
        fleet.until("mver", version, "on both nodes", |s| s["readyNodes"] == 2).await;
    }
    fleet.wait_ready("mdep", "bot").await;
    fleet.until_version("v1.0.0").await;
    for node in &fleet.nodes {
        assert_eq!(node.tags().await["models"].as_array().map(Vec::len), Some(4), "two tags, two aliases, no more");
    }
}

/// Killed while it waits for approval, and right after each promotion.
async fn takes_each_step_once(fleet: &mut Fleet) {
    fleet.apply(&by_hand("v1.1.0")).await;
    let waiting = fleet.until("mdep", "bot", "20 %", |s| s["canary"]["weight"] == 20).await;
    kill_and_restart(fleet).await;
    fleet.rollout(&["promote"]).await.expect("promote");
    kill_and_restart(fleet).await;
    let later = fleet.until("mdep", "bot", "50 %", |s| s["canary"]["weight"] == 50).await;
    assert_eq!(later["status"]["rolloutId"], waiting["status"]["rolloutId"], "it did not start again");
    fleet.rollout(&["promote"]).await.expect("promote");
    kill_and_restart(fleet).await;
    let live = fleet.until("mdep", "bot", "v1.1.0 has all", |s| s["phase"] == "Healthy").await;
    assert_eq!(past(&live["status"]), ["v1.1.0 Deployed", "v1.0.0 Deployed"]);
}

/// Killed when the rollback is decided, while one of the gateways has not said that it serves it.
async fn finishes_a_rollback(fleet: &mut Fleet) {
    fleet.gateways[0].process().pause();
    fleet.rollout(&["undo"]).await.expect("undo");
    let decided = fleet.until("mdep", "bot", "decided", |s| s["lastRollback"].is_object()).await;
    kill_and_restart(fleet).await;
    let pending = fleet.get("mdep", "bot").await["status"].clone();
    assert_eq!((&pending["phase"], &pending["lastRollback"]["effectiveAt"]), (&"RollingBack".into(), &Value::Null));
    fleet.gateways[0].process().resume();
    let done = fleet.until("mdep", "bot", "effective", |s| s["lastRollback"]["effectiveAt"].is_string()).await;
    assert_eq!(done["status"]["lastRollback"]["decidedAt"], decided["status"]["lastRollback"]["decidedAt"]);
}

/// One transition: out of a pause, and out of a step that waits for approval.
async fn goes_back_from_wherever_it_waits(fleet: &mut Fleet) {
    let pause = |paused: bool| format!(r#"{{"spec": {{"paused": {paused}}}}}"#);
    for paused in [true, false] {
        fleet.rollout(&["retry"]).await.expect("retry");
        fleet.until("mdep", "bot", "from 20 % again", |s| s["canary"]["weight"] == 20).await;
        if paused {
            fleet.patch("mdep", "bot", &pause(true)).await;
            let held = fleet.until("mdep", "bot", "held", |s| s["phase"] == "Paused").await;
            kill_and_restart(fleet).await;
            let after = fleet.get("mdep", "bot").await["status"].clone();
            assert_eq!((&after["phase"], &after["canary"]), (&"Paused".into(), &held["status"]["canary"]));
        }
        fleet.rollout(&["undo"]).await.expect("undo");
        let back = |s: &Value| s["canary"].is_null() && s["lastRollback"]["effectiveAt"].is_string();
        let back = fleet.until("mdep", "bot", "back in one transition", back).await;
        assert_eq!(back["status"]["stable"]["version"], "v1.0.0");
        assert_eq!(back["status"]["rejected"]["version"], "v1.1.0");
        fleet.patch("mdep", "bot", &pause(false)).await;
    }
    let status = fleet.get("mdep", "bot").await["status"].clone();
    let expected = ["v1.1.0 RolledBack", "v1.1.0 RolledBack", "v1.0.0 Deployed", "v1.1.0 RolledBack"];
    assert_eq!(past(&status)[..4], expected, "{status}");
}

/// The versions of the history with what became of them, newest first.
fn past(status: &Value) -> Vec<String> {
    let entry = |entry: &Value| {
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        format!("{} {}", text("version"), text("outcome"))
    };
    status["history"].as_array().expect("a list").iter().map(entry).collect()
}

async fn a_tag_that_moves_upstream_during_a_rollout_changes_nothing_that_is_served(server: Server) {
    let fleet = serving_fleet(server, "1h").await;
    fleet.apply(&by_hand("v1.1.0")).await;
    fleet.until("mdep", "bot", "20 %", |s| s["canary"]["weight"] == 20).await;
    let digest = fleet.get("mver", "bot-v1.1.0").await["status"]["digest"].clone();

    let moved = [("drover/alpha", "2", TinyLlama::new(92).says("somebody else"))];
    publish(&fleet.registry, &fleet.nodes[0], &moved).await;
    let now = fleet.registry.manifest_digest("drover/alpha", "2").await;
    assert_ne!(digest, now.as_str());
    fleet.patch("mpull", "alpha-2", r#"{"spec": {"updatePolicy": "Always", "checkInterval": "10s"}}"#).await;
    for node in &fleet.nodes {
        eventually("the node follows the tag", SOON, async || {
            match node.digest_of(&fleet.model("drover/alpha:2")).await {
                Some(held) if held == now => Ok(()),
                held => Err(format!("{held:?}")),
            }
        })
        .await;
    }

    fleet.rollout(&["promote"]).await.expect("promote");
    fleet.until("mdep", "bot", "50 %", |s| s["canary"]["weight"] == 50).await;
    fleet.rollout(&["promote"]).await.expect("promote");
    fleet.until("mdep", "bot", "v1.1.0 has all", |s| s["phase"] == "Healthy").await;
    fleet.until_version("v1.1.0").await;
    for gateway in [0, 1] {
        let answer = fleet.chat(gateway, "bot").await;
        assert_eq!(answer.headers()["x-drover-digest"], digest.as_str().expect("a digest"));
        let text = answer.text().await.expect("an answer");
        assert!(text.contains("two"), "{text}");
    }
    assert_eq!(fleet.get("mver", "bot-v1.1.0").await["status"]["digest"], digest);
}
