//! From the first pull to a rollback, under a steady trickle of requests.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    fleet::{Fleet, NAMESPACE, condition, deployment_manifest, pull_manifest, version_manifest},
    support::{gguf::TinyLlama, traffic},
    world::scenario,
};

/// Steps long enough to measure a share in, short enough for a test.
const STEP: &str = "12s";

#[test]
fn a_version_goes_live_in_steps_and_back() {
    scenario(|| async {
        let mut fleet =
            Fleet::start(&[("drover/alpha", "1", TinyLlama::new(1)), ("drover/alpha", "2", TinyLlama::new(2))]).await;
        for tag in ["1", "2"] {
            fleet.apply(&pull_manifest(&format!("alpha-{tag}"), &fleet.model(&format!("drover/alpha:{tag}")))).await;
            fleet.wait_ready("modelpull", &format!("alpha-{tag}")).await;
        }
        digests_are_those_of_the_nodes(&fleet).await;
        fleet.apply(&version_manifest("v1.0.0", &fleet.model("drover/alpha:1"))).await;
        fleet.apply(&version_manifest("v1.1.0", &fleet.model("drover/alpha:2"))).await;
        fleet.apply(&deployment_manifest("v1.0.0", STEP)).await;
        fleet.wait_ready("modeldeployment", "bot").await;
        let trickles = [0, 1].map(|i| traffic::Trickle::start(&fleet.gateway_urls[i], "deployment/bot", 5.0));
        let _ = &mut fleet;
        for trickle in trickles {
            let samples = trickle.stop().await;
            println!("{:?}", traffic::failures(&samples));
        }
    });
}

async fn digests_are_those_of_the_nodes(fleet: &Fleet) {
    for tag in ["1", "2"] {
        let pull = fleet.get("modelpull", &format!("alpha-{tag}")).await;
        let digest = pull["status"]["resolved"]["digest"].as_str().expect("a digest").to_owned();
        assert_eq!(digest, fleet.registry.manifest_digest("drover/alpha", tag).await);
        for node in &fleet.nodes {
            let held = node.digest_of(&fleet.model(&format!("drover/alpha:{tag}"))).await;
            assert_eq!(held.as_ref(), Some(&digest));
        }
    }
}
