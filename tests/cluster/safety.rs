//! What keeps a bad canary from callers when nobody can take it back: the lease and the brake of each gateway.

use serde_json::Value;

use crate::{
    bot::{REQUESTS_PER_SECOND, no_request_failed, serving_fleet, serving_fleet_alone, shares_are, trickles},
    fleet::deployment_manifest,
    namespace::SOON,
    support::{eventually, kube_api::Server, line::Line, traffic::Trickle},
    world::on_both_apis,
};

/// Requests that one gateway may send to a canary that never answers.
const FEW: u64 = 20;
/// A part of the canary's name on the nodes.
const CANARY: &str = "/bot:v1.1.0";
const LEASE: &str = "3s";
/// A slow machine may lose the short lease some times more than the test has it lost.
const FEW_LAPSES: usize = 30;

on_both_apis! {
    a_gateway_that_is_cut_off_from_the_api_stops_serving_the_canary,
    a_canary_that_fails_outright_gets_few_requests_and_is_taken_back,
    a_gateway_that_hangs_keeps_no_failing_canary_alive,
    a_canary_that_breaks_while_the_api_is_away_harms_nobody_and_is_taken_back_afterwards,
}

async fn a_gateway_that_is_cut_off_from_the_api_stops_serving_the_canary(server: Server) {
    let mut fleet = serving_fleet(server, "1h").await;
    let line = Line::start(fleet.api.port()).await;
    let kubeconfig = fleet.api.kubeconfig_at(line.port());
    fleet.replace_gateway(1, &kubeconfig, &["--canary-lease", LEASE]).await;
    fleet.apply(&deployment_manifest("v1.1.0", "1h")).await;
    let shares = async |what: &str, expected: [u64; 2]| {
        eventually(what, SOON, async || shares_are(&fleet, expected).await).await;
    };
    shares("both serve the canary", [20, 20]).await;
    let trickles = trickles(&fleet);

    line.go_dead();
    shares("the lease of the second ends", [20, 0]).await;
    fleet.rollout(&["undo"]).await.expect("undo");
    let decided = |s: &serde_json::Value| s["phase"] == "RollingBack" && s["lastRollback"]["effectiveAt"].is_null();
    fleet.until("mdep", "bot", "decided, and not known to the second", decided).await;
    shares("nobody serves it", [0, 0]).await;
    line.revive();
    let arrived = |s: &serde_json::Value| s["phase"] == "Degraded" && s["lastRollback"]["effectiveAt"].is_string();
    fleet.until("mdep", "bot", "the second knows it, too", arrived).await;

    // The connections of its watches die without a word, and new ones work: the API answers, and has nothing to tell.
    fleet.rollout(&["retry"]).await.expect("retry");
    shares("both serve the canary again", [20, 20]).await;
    line.kill_present_connections();
    fleet.rollout(&["undo"]).await.expect("undo");
    shares("nobody serves it", [0, 0]).await;
    fleet.until("mdep", "bot", "a new watch has brought it", arrived).await;
    no_request_failed(trickles).await;
    let told = fleet.gateways[1].process().log().matches("no proof that canaries").count();
    assert!((1..FEW_LAPSES).contains(&told), "an end of the lease is told once: {told} times");
}

async fn a_canary_that_fails_outright_gets_few_requests_and_is_taken_back(server: Server) {
    let fleet = serving_fleet(server, "1h").await;
    let fronts = fleet.put_fronts().await;
    for front in &fronts {
        front.break_chats_of(Some(CANARY));
    }
    let trickles = trickles(&fleet);
    fleet.apply(&deployment_manifest("v1.1.0", "1h")).await;
    let back = fleet.until("mdep", "bot", "taken back", |s| s["lastRollback"]["effectiveAt"].is_string()).await;
    let status = &back["status"];
    let reason = status["rejected"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("failed outright"), "{reason}");
    assert_eq!((&status["phase"], &status["stable"]["weight"]), (&"Degraded".into(), &100.into()));
    let tried: u64 = fronts.iter().map(|front| front.chats_of(CANARY)).sum();
    assert!((1..=2 * FEW).contains(&tried), "{tried} requests");
    no_request_failed(trickles).await;
    shares_are(&fleet, [0, 0]).await.expect("it is not tried again");
}

async fn a_gateway_that_hangs_keeps_no_failing_canary_alive(server: Server) {
    let mut fleet = serving_fleet(server, "1h").await;
    let fronts = fleet.put_fronts().await;
    for front in &fronts {
        front.break_chats_of(Some(CANARY));
    }
    // It accepts connections, and answers nothing.
    fleet.gateways[1].process().pause();
    let trickle = Trickle::start(&fleet.gateway_urls[0], "deployment/bot", REQUESTS_PER_SECOND);
    fleet.apply(&deployment_manifest("v1.1.0", "1h")).await;
    fleet.until("mdep", "bot", "20 %", |s| s["canary"]["weight"] == 20).await;
    let back = fleet.until("mdep", "bot", "taken back", |s| s["rejected"]["version"] == "v1.1.0").await;
    let status = &back["status"];
    assert!(status["rejected"]["reason"].to_string().contains("failed outright"), "{status}");
    assert_eq!((&status["phase"], &status["lastRollback"]["effectiveAt"]), (&"RollingBack".into(), &Value::Null));
    no_request_failed([trickle]).await;
    fleet.gateways[1].process().resume();
    let effective = |s: &Value| s["phase"] == "Degraded" && s["lastRollback"]["effectiveAt"].is_string();
    fleet.until("mdep", "bot", "the other one has heard of it", effective).await;
    shares_are(&fleet, [0, 0]).await.expect("nobody serves it");
}

async fn a_canary_that_breaks_while_the_api_is_away_harms_nobody_and_is_taken_back_afterwards(server: Server) {
    let fleet = serving_fleet_alone(server, "1h").await;
    let fronts = fleet.put_fronts().await;
    fleet.apply(&deployment_manifest("v1.1.0", "1h")).await;
    let canary = async || shares_are(&fleet, [20, 20]).await;
    eventually("both serve the canary", SOON, canary).await;
    let trickles = trickles(&fleet);

    fleet.api.stop();
    let before: u64 = fronts.iter().map(|front| front.chats_of(CANARY)).sum();
    for front in &fronts {
        front.break_chats_of(Some(CANARY));
    }
    let braked = async || shares_are(&fleet, [0, 0]).await;
    eventually("both gave it up by themselves", SOON, braked).await;
    let tried: u64 = fronts.iter().map(|front| front.chats_of(CANARY)).sum::<u64>() - before;
    assert!((1..=2 * FEW).contains(&tried), "{tried} requests");
    fleet.api.start_again().await;
    let back = fleet.until("mdep", "bot", "taken back", |s| s["lastRollback"]["effectiveAt"].is_string()).await;
    assert!(back["status"]["rejected"]["reason"].to_string().contains("failed outright"), "{}", back["status"]);
    no_request_failed(trickles).await;
}
