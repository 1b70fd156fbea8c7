//! From the first pull to a rollback, on two nodes behind two gateways, under a steady trickle of requests, while
//! everything is killed that can be killed.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    bot::{
        REQUESTS_PER_SECOND, failures, no_request_failed, rolled_back, serving_fleet, serving_fleet_alone, shares_are,
        trickles,
    },
    fleet::{Fleet, deployment_manifest, pull_manifest},
    namespace::{SOON, condition},
    support::{
        drover::Drover,
        gguf::TinyLlama,
        kube_api::Server,
        traffic::{Sample, Trickle},
    },
    world::on_both_apis,
};

/// Long enough to measure a share in, short enough for a test.
const STEP: &str = "10s";

on_both_apis! {
    a_version_goes_live_in_steps_and_back,
    nothing_is_lost_when_parts_are_killed,
    requests_go_on_while_the_api_is_away_and_a_node_dies,
    an_idle_system_writes_nothing,
    a_stream_whose_node_dies_ends_with_an_error_and_the_next_one_is_answered,
}

async fn a_version_goes_live_in_steps_and_back(server: Server) {
    let fleet = serving_fleet(server, STEP).await;
    let answer = fleet.chat(0, "bot").await;
    assert_eq!(answer.headers()["x-drover-version"], "v1.0.0");
    assert_eq!(answer.headers()["x-drover-model"], fleet.model("drover/alpha:1"));
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["model"], fleet.model("drover/alpha:1"), "the body names the tag, not the alias");
    assert!(body["message"]["content"].as_str().is_some_and(|text| text.contains("one")), "{body}");

    let trickles = trickles(&fleet);
    fleet.apply(&deployment_manifest("v1.1.0", STEP)).await;
    for weight in [20, 50] {
        fleet.until("mdep", "bot", &format!("{weight} %"), |s| s["canary"]["weight"] == weight).await;
        let start = Timestamp::now();
        shares_are(&fleet, [weight, weight]).await.expect("on each gateway");
        let status = fleet.get("mdep", "bot").await;
        assert_eq!(status["status"]["canary"]["weight"], weight, "measured since {start} within the step");
        assert_eq!(status["status"]["stable"]["weight"], 100 - weight);
        assert!(condition(&status["status"], "Ready", "True"), "a canary on schedule is Ready");
    }
    let done = fleet.until("mdep", "bot", "v1.1.0 has all", |s| s["phase"] == "Healthy").await;
    assert_eq!(done["status"]["stable"]["version"], "v1.1.0");
    assert_eq!(done["status"]["previous"]["version"], "v1.0.0");
    fleet.until("mver", "bot-v1.1.0", "deployed", |s| s["lifecycle"] == "Deployed").await;
    fleet.until("mver", "bot-v1.0.0", "archived", |s| s["lifecycle"] == "Archived").await;

    fleet.drover(&["rollout", "undo", "bot", "-n", &fleet.name]).await.expect("undo");
    let back = rolled_back(&fleet, &Value::Null).await;
    assert_eq!(back["phase"], "Degraded");
    assert_eq!(back["rejected"]["version"], "v1.1.0");
    for gateway in [0, 1] {
        assert_eq!(fleet.chat(gateway, "bot").await.headers()["x-drover-version"], "v1.0.0");
    }
    let events = fleet.kubectl(&["events", "--for=mdep/bot"]).await;
    for reason in ["Deployed", "RolloutStarted", "StepStarted", "RolledBack"] {
        assert!(events.contains(reason), "no event {reason}: {events}");
    }
    let shown = fleet.drover(&["rollout", "status", "bot", "-n", &fleet.name]).await.expect("status");
    assert!(shown.contains("stable    100 %  v1.0.0") && shown.contains("rejected         v1.1.0"), "{shown}");
    let again = fleet.drover(&["rollout", "undo", "bot", "-n", &fleet.name]).await;
    assert!(again.expect_err("nothing is left to undo").contains("no earlier version"));

    // A spec that is set back is a rollback too, in the middle of a step.
    fleet.apply(&deployment_manifest("v1.0.0", STEP)).await;
    fleet.until("mdep", "bot", "healthy on v1.0.0", |s| s["phase"] == "Healthy").await;
    fleet.apply(&deployment_manifest("v1.1.0", STEP)).await;
    fleet.until("mdep", "bot", "a new try", |s| s["canary"]["weight"] == 20).await;
    fleet.apply(&deployment_manifest("v1.0.0", STEP)).await;
    rolled_back(&fleet, &back["lastRollback"]).await;
    fleet.until("mdep", "bot", "healthy again", |s| s["phase"] == "Healthy").await;
    no_request_failed(trickles).await;
}

async fn nothing_is_lost_when_parts_are_killed(server: Server) {
    let mut fleet = serving_fleet(server, "4s").await;
    // Requests go through the second gateway: killing a gateway breaks what goes through it, nothing else may.
    let trickle = Trickle::start(&fleet.gateway_urls[1], "bot", REQUESTS_PER_SECOND);
    fleet.apply(&deployment_manifest("v1.1.0", "4s")).await;
    for weight in [20, 50] {
        fleet.until("mdep", "bot", &format!("{weight} %"), |s| s["canary"]["weight"] == weight).await;
        let before = fleet.get("mdep", "bot").await["status"].clone();
        fleet.controller.kill9();
        fleet.gateways[0].kill9();
        tokio::join!(fleet.controller.restart(), fleet.gateways[0].restart());
        let after = fleet.get("mdep", "bot").await["status"].clone();
        assert_eq!(after["rolloutId"], before["rolloutId"], "the rollout goes on, it does not start again");
    }
    fleet.until("mdep", "bot", "v1.1.0 has all", |s| s["phase"] == "Healthy").await;
    let history = fleet.get("mdep", "bot").await["status"]["history"].clone();
    let versions: Vec<&str> =
        history.as_array().expect("a list").iter().filter_map(|h| h["version"].as_str()).collect();
    assert_eq!(versions, ["v1.1.0", "v1.0.0"], "each went live once");

    // Killed between the decision to go back and its effect.
    fleet.drover(&["rollout", "undo", "bot", "-n", &fleet.name]).await.expect("undo");
    fleet.controller.kill9();
    fleet.controller.restart().await;
    rolled_back(&fleet, &Value::Null).await;
    no_request_failed([trickle]).await;
}

/// Seconds since a gateway's table was last known to be right.
async fn table_age(gateway: &Drover) -> f64 {
    let metrics = gateway.metrics().await;
    let age = metrics.lines().find_map(|line| line.strip_prefix("drover_gateway_table_age_seconds "));
    age.expect("a table has an age").parse().expect("a number")
}

async fn requests_go_on_while_the_api_is_away_and_a_node_dies(server: Server) {
    let mut fleet = serving_fleet_alone(server, "1h").await;
    fleet.apply(&deployment_manifest("v1.1.0", "1h")).await;
    fleet.until("mdep", "bot", "20 %", |s| s["canary"]["weight"] == 20).await;
    let trickles = trickles(&fleet);
    shares_are(&fleet, [20, 20]).await.expect("before the outage");

    fleet.api.stop();
    let outage = tokio::time::Instant::now();
    shares_are(&fleet, [20, 20]).await.expect("a short outage changes nothing");
    // A gateway that starts without the API serves what it knew, but stable only: the canary may be over.
    fleet.gateways[0].restart().await;
    shares_are(&fleet, [0, 20]).await.expect("stable only on the restarted one");
    tokio::time::sleep_until(outage + Duration::from_secs(30)).await;
    for gateway in &fleet.gateways {
        let age = table_age(gateway).await;
        assert!(age > 15.0, "the table's age grows, also over a restart: {age}");
    }
    fleet.api.start_again().await;
    let [samples, more] = trickles.map(Trickle::stop);
    let (samples, more) = (samples.await, more.await);
    let through_restarted = failures(&samples);
    assert!(through_restarted.iter().all(|f| f.contains("onnect") || f.contains("ncomplete")), "{through_restarted:?}");
    assert_eq!(failures(&more), Vec::<String>::new(), "through the gateway that was left alone");
    let again = async || shares_are(&fleet, [20, 20]).await;
    crate::support::eventually("both gateways serve the canary again", SOON, again).await;
    for gateway in &fleet.gateways {
        let fresh = async || Some(table_age(gateway).await).filter(|age| *age < 15.0).ok_or("the table is old");
        crate::support::eventually("the table is known to be right again", SOON, fresh).await;
    }

    // A node dies: every request still gets an answer, from the other one.
    let trickle = Trickle::start(&fleet.gateway_urls[1], "bot", REQUESTS_PER_SECOND);
    fleet.nodes[0].kill9();
    let away = fleet.until("onode", "node-1", "not ready", |s| condition(s, "Ready", "False")).await;
    assert_eq!(away["status"]["stale"], true);
    assert!(away["status"]["modelCount"].as_i64() > Some(0), "what was last seen is kept: {}", away["status"]);
    fleet.nodes[0].restart().await;
    fleet.until("onode", "node-1", "ready again", |s| condition(s, "Ready", "True") && s["stale"] == false).await;
    let samples = trickle.stop().await;
    let broken: Vec<&Sample> = samples.iter().filter(|sample| sample.error.is_some()).collect();
    assert!(
        broken.iter().all(|sample| sample.streamed && sample.status == Some(200)),
        "only a stream whose first byte had gone out may break: {broken:?}"
    );

    // Steps of an hour are left by hand, unless the rollout is held.
    let rollout = async |command| fleet.drover(&["rollout", command, "bot", "-n", &fleet.name]).await;
    rollout("promote").await.expect("promote");
    fleet.until("mdep", "bot", "50 %", |s| s["canary"]["weight"] == 50).await;
    let pause = |paused: bool| format!(r#"{{"spec": {{"paused": {paused}}}}}"#);
    fleet.patch("mdep", "bot", &pause(true)).await;
    rollout("promote").await.expect("promote");
    fleet.until("mdep", "bot", "held", |s| s["phase"] == "Paused" && s["canary"]["weight"] == 50).await;
    fleet.patch("mdep", "bot", &pause(false)).await;
    fleet.until("mdep", "bot", "v1.1.0 has all", |s| s["phase"] == "Healthy").await;
    assert!(rollout("promote").await.expect_err("nothing to promote").contains("no rollout is under way"));
    assert!(rollout("retry").await.expect_err("nothing to retry").contains("nothing was taken back"));
    rollout("undo").await.expect("undo");
    rolled_back(&fleet, &Value::Null).await;
    rollout("retry").await.expect("retry");
    fleet.until("mdep", "bot", "from 20 % again", |s| s["canary"]["weight"] == 20).await;
}

async fn an_idle_system_writes_nothing(server: Server) {
    let fleet = serving_fleet_alone(server, "1h").await;
    let start = fleet.api.marker().await;
    fleet.apply(&deployment_manifest("v1.1.0", "1h")).await;
    fleet.until("mdep", "bot", "20 %", |s| s["canary"]["weight"] == 20).await;
    fleet.until("mver", "bot-v1.1.0", "canary", |s| s["lifecycle"] == "Canary").await;
    // What the first answers have loaded is seen, and written, a little later.
    for (name, node) in ["node-1", "node-2"].iter().zip(&fleet.nodes) {
        let loaded = node.loaded().await;
        let is_shown = |s: &Value| s["loaded"].as_array().map_or(0, Vec::len) == loaded;
        fleet.until("onode", name, "shows what is in memory", is_shown).await;
    }
    assert!(!fleet.api.writes_since(start).await.is_empty(), "writes are counted");
    let marker = fleet.api.marker().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let writes = fleet.api.writes_since(marker).await;
    assert!(writes.is_empty(), "{writes:?}");
}

async fn a_stream_whose_node_dies_ends_with_an_error_and_the_next_one_is_answered(server: Server) {
    let endless = TinyLlama::new(30).says("and so on").endlessly();
    let mut fleet = Fleet::start(server, &[("drover/endless", "1", endless)]).await;
    let model = fleet.model("drover/endless:1");
    fleet.apply(&pull_manifest("endless", &model)).await;
    fleet.wait_ready("mpull", "endless").await;
    fleet.until_served(&model).await;
    let request = json!({
        "model": model, "stream": true, "options": {"num_predict": 1_000_000},
        "messages": [{"role": "user", "content": "Go on"}],
    });
    let request = fleet.http.post(format!("{}/api/chat", fleet.gateway_urls[0])).json(&request);
    let mut answer = request.send().await.expect("the gateway answers");
    assert_eq!(answer.status(), 200);
    let node = answer.headers()["x-drover-node"].to_str().expect("a name").to_owned();
    let mut text = answer.chunk().await.expect("a first piece").expect("not the end").to_vec();
    fleet.nodes[usize::from(node == "node-2")].kill9();
    while let Some(piece) = answer.chunk().await.expect("the stream is ended in order") {
        text.extend_from_slice(&piece);
    }
    let text = String::from_utf8(text).expect("UTF-8");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert!(last["error"].as_str().is_some_and(|error| error.contains(&node)), "{last}");
    for _ in 0..10 {
        let answer = fleet.chat(0, &model).await;
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap_or_default());
    }
}
