//! `bot`, the model that rollouts are tried with: two versions on two nodes behind two gateways, and requests to it.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    fleet::{Fleet, deployment_manifest, pull_manifest, version_manifest},
    support::{
        gguf::TinyLlama,
        kube_api::Server,
        traffic::{Sample, Trickle},
    },
};

pub const REQUESTS_PER_SECOND: f64 = 8.0;

/// Two models that say which one they are.
pub fn models() -> [(&'static str, &'static str, TinyLlama); 2] {
    [("1", "this is one"), ("2", "that was two")].map(|(tag, says)| {
        let model = TinyLlama::new(tag.parse().expect("a number")).says(says);
        ("drover/alpha", tag, model)
    })
}

/// A fleet in which v1.0.0 of `bot` serves and both versions are on both nodes.
pub async fn serving_fleet(server: Server, step: &str) -> Fleet {
    serving(Fleet::start(server, &models()).await, step).await
}

/// The same on an API server of its own.
pub async fn serving_fleet_alone(server: Server, step: &str) -> Fleet {
    serving(Fleet::alone(server, &models()).await, step).await
}

async fn serving(fleet: Fleet, step: &str) -> Fleet {
    for tag in ["1", "2"] {
        fleet.apply(&pull_manifest(&format!("alpha-{tag}"), &fleet.model(&format!("drover/alpha:{tag}")))).await;
        fleet
            .apply(&version_manifest(
                &format!("v1.{}.0", if tag == "1" { 0 } else { 1 }),
                &fleet.model(&format!("drover/alpha:{tag}")),
            ))
            .await;
    }
    fleet.apply(&deployment_manifest("v1.0.0", step)).await;
    for (name, tag) in [("alpha-1", "1"), ("alpha-2", "2")] {
        fleet.wait_ready("modelpull", name).await;
        digests_are_those_of_the_nodes(&fleet, name, tag).await;
    }
    for version in ["bot-v1.0.0", "bot-v1.1.0"] {
        fleet.until("mver", version, "on both nodes", |s| s["readyNodes"] == 2).await;
    }
    fleet.wait_ready("modeldeployment", "bot").await;
    fleet.until_version("v1.0.0").await;
    fleet
}

async fn digests_are_those_of_the_nodes(fleet: &Fleet, pull: &str, tag: &str) {
    let status = fleet.get("modelpull", pull).await["status"].clone();
    let digest = status["resolved"]["digest"].as_str().expect("a digest").to_owned();
    assert_eq!(digest, fleet.registry.manifest_digest("drover/alpha", tag).await);
    for node in &fleet.nodes {
        assert_eq!(node.digest_of(&fleet.model(&format!("drover/alpha:{tag}"))).await.as_ref(), Some(&digest));
    }
}

/// A deployment whose steps are left by hand.
pub fn by_hand(version: &str) -> String {
    deployment_manifest(version, "0s").replace("canary: {", "canary: {requireApproval: true, ")
}

pub fn trickles(fleet: &Fleet) -> [Trickle; 2] {
    [0, 1].map(|gateway| Trickle::start(&fleet.gateway_urls[gateway], "deployment/bot", REQUESTS_PER_SECOND))
}

pub fn failures(samples: &[Sample]) -> Vec<String> {
    samples.iter().filter_map(|sample| sample.error.clone()).collect()
}

pub async fn no_request_failed(trickles: impl IntoIterator<Item = Trickle>) {
    for trickle in trickles {
        let samples = trickle.stop_after(50).await;
        assert_eq!(failures(&samples), Vec::<String>::new());
    }
}

/// Whether v1.1.0 answers these percentages of some hundred requests to each gateway, by the gateway's own counters.
/// The split itself is exact; requests under way while the counters are read make two percent of difference at most.
pub async fn shares_are(fleet: &Fleet, expected: [u64; 2]) -> Result<(), String> {
    for (gateway, expected) in expected.into_iter().enumerate() {
        let share = measured_share(fleet, gateway).await;
        let tolerance = if expected == 0 { 0 } else { 2 };
        if share.abs_diff(expected) > tolerance {
            return Err(format!("gateway {gateway} gives v1.1.0 {share} %, not {expected} %"));
        }
    }
    Ok(())
}

async fn measured_share(fleet: &Fleet, gateway: usize) -> u64 {
    let before = fleet.attempts(gateway).await;
    loop {
        let now = fleet.attempts(gateway).await;
        let [stable, canary] = [now[0] - before[0], now[1] - before[1]];
        let all = stable + canary;
        if all >= 100 {
            return (canary * 100 + all / 2) / all;
        }
        fleet.chat(gateway, "bot").await;
    }
}

/// Waits for a rollback from v1.1.0 to v1.0.0, other than this earlier one, to be served by both gateways and checks
/// how long that took.
pub async fn rolled_back(fleet: &Fleet, earlier: &Value) -> Value {
    let object = fleet
        .until("mdep", "bot", "back from v1.1.0 to v1.0.0", |status| {
            let rollback = &status["lastRollback"];
            rollback["from"] == "v1.1.0"
                && rollback["to"] == "v1.0.0"
                && rollback["decidedAt"] != earlier["decidedAt"]
                && rollback["effectiveAt"].is_string()
                && status["phase"] != "RollingBack"
        })
        .await;
    let status = object["status"].clone();
    let time = |field: &str| -> Timestamp {
        status["lastRollback"][field].as_str().expect("a time").parse().expect("RFC 3339")
    };
    let took = time("effectiveAt").duration_since(time("decidedAt"));
    assert!(took.as_millis() < 1000, "decided to effective took {took}");
    assert_eq!(status["stable"]["version"], "v1.0.0");
    assert_eq!(status["stable"]["weight"], 100);
    status
}
