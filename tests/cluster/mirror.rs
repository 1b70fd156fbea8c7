//! Pulls through a real mirror onto real nodes: one fetch for all of them, pins, moved tags, deletion, turns, faults.

use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    fleet::{Fleet, pull_manifest},
    namespace::{SOON, condition},
    support::{eventually, free_port, gguf::TinyLlama, kube_api::Server, models::publish, ollama::Ollama},
    world::on_both_apis,
};

const MIB: u64 = 1 << 20;
const BIG: u64 = 24 * MIB;
/// A field of a pull's spec: on `node-1` only.
const ON_FIRST: &str = "nodeSelector: {matchLabels: {node: node-1}}, insecure";

on_both_apis! {
    every_byte_is_fetched_once_whatever_dies_meanwhile,
    a_moved_tag_is_followed_and_a_pin_is_kept,
    a_model_goes_with_its_object_where_drover_put_it,
    logins_turns_and_a_node_that_does_not_reach_the_mirror,
    what_is_absent_slow_or_not_mirrored_holds_up_nobody,
}

async fn every_byte_is_fetched_once_whatever_dies_meanwhile(server: Server) {
    let mut fleet = Fleet::with_mirror(server, &[("drover/big", "1", TinyLlama::new(40).size(BIG))]).await;
    let model = fleet.model("drover/big:1");
    let mut mirror = fleet.mirror.take().expect("a fleet with a mirror");
    mirror.kill9();
    fleet.apply(&pull_manifest("big", &model)).await;
    let status =
        fleet.until("mpull", "big", "says that the mirror is away", |s| has_reason(s, "MirrorUnreachable")).await;
    assert_eq!(fleet.front.blob_bytes(), 0, "it was pulled past the mirror: {status}");

    fleet.front.limit_bandwidth(Some(2 * MIB));
    mirror.restart().await;
    let size = |s: &Value| s["nodes"][0]["totalBytes"].as_u64().unwrap_or(0);
    fleet.until("mpull", "big", "under way", |s| s["progress"].as_i64() > Some(60) && size(s) >= BIG).await;
    fleet.controller.kill9();
    mirror.kill9();
    mirror.restart().await;
    fleet.controller.restart().await;
    fleet.until("mpull", "big", "goes on", |s| s["progress"].as_i64() > Some(60)).await;
    fleet.front.limit_bandwidth(None);
    fleet.wait_ready("mpull", "big").await;

    let digest = fleet.registry.manifest_digest("drover/big", "1").await;
    for node in &fleet.nodes {
        assert_eq!(node.digest_of(&model).await.as_ref(), Some(&digest));
        only(node, &[&model]).await;
        assert_blobs_are_whole(node);
    }
    let done = fleet.get("mpull", "big").await;
    let resolved = &done["status"]["resolved"];
    assert_eq!((&resolved["digest"], &resolved["upstreamDigest"]), (&digest.as_str().into(), &digest.as_str().into()));
    assert_eq!(resolved["id"].as_str(), digest.get(7..19));
    // What the mirror had not put on record when it died, and what was on the line, is fetched again: less than it had.
    let fetched = fleet.front.blob_bytes();
    assert!(fetched < BIG + BIG / 2, "{fetched} bytes were fetched for two nodes and {BIG}");
    eventually("it is told", SOON, async || {
        let events = fleet.events("ModelPull", "big").await;
        if events.iter().any(|reason| reason == "Pulled") { Ok(()) } else { Err(format!("{events:?}")) }
    })
    .await;
}

async fn a_moved_tag_is_followed_and_a_pin_is_kept(server: Server) {
    let fleet =
        Fleet::with_mirror(server, &[("drover/bot", "1", TinyLlama::new(41)), ("drover/pin", "1", TinyLlama::new(42))])
            .await;
    let (bot, pinned) = (fleet.model("drover/bot:1"), fleet.model("drover/pin:1"));
    let follow = pull_manifest("bot", &bot).replace("insecure", "updatePolicy: Always, checkInterval: 10s, insecure");
    fleet.apply(&follow).await;
    fleet.apply(&pull_manifest("pin", &pinned)).await;
    fleet.wait_ready("mpull", "bot").await;
    fleet.wait_ready("mpull", "pin").await;
    let first = fleet.registry.manifest_digest("drover/bot", "1").await;
    let old_pin = fleet.registry.manifest_digest("drover/pin", "1").await;

    // Looking it up where nothing moved writes nothing.
    let before = fleet.get("mpull", "bot").await;
    let asked = manifests(&fleet, "bot");
    eventually("the tag is looked up again", SOON, async || {
        let now = manifests(&fleet, "bot");
        if now > asked { Ok(()) } else { Err(format!("asked {now} times")) }
    })
    .await;
    let unmoved = fleet.get("mpull", "bot").await;
    assert_eq!(unmoved["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);

    // Both tags move.
    let moved = [("drover/bot", "1", TinyLlama::new(43)), ("drover/pin", "1", TinyLlama::new(44))];
    publish(&fleet.registry, &fleet.nodes[0], &moved).await;
    let second = fleet.registry.manifest_digest("drover/bot", "1").await;
    let new_pin = fleet.registry.manifest_digest("drover/pin", "1").await;
    assert!(first != second && old_pin != new_pin);
    fleet
        .until("mpull", "bot", "follows", |s| s["resolved"]["digest"] == second.as_str() && s["phase"] == "Ready")
        .await;
    let events = fleet.events("ModelPull", "bot").await;
    assert!(events.iter().any(|reason| reason == "TagMoved"), "{events:?}");

    // The pin wins over the tag, also on nodes that hold something else.
    fleet.patch("mpull", "pin", &format!(r#"{{"spec": {{"digest": "{new_pin}"}}}}"#)).await;
    fleet.until("mpull", "pin", "holds the new one", |s| holds(s, &new_pin)).await;
    fleet.patch("mpull", "pin", &format!(r#"{{"spec": {{"digest": "{old_pin}"}}}}"#)).await;
    fleet.until("mpull", "pin", "holds the old one", |s| holds(s, &old_pin)).await;
    let nothing = format!("sha256:{}", "0".repeat(64));
    fleet.patch("mpull", "pin", &format!(r#"{{"spec": {{"digest": "{nothing}"}}}}"#)).await;
    fleet
        .until("mpull", "pin", "says that nobody has it", |s| s["phase"] == "Failed" && message(s).contains(&nothing))
        .await;
    for node in &fleet.nodes {
        assert_eq!(node.digest_of(&bot).await.as_ref(), Some(&second));
        assert_eq!(node.digest_of(&pinned).await.as_ref(), Some(&old_pin), "what is there stays");
        only(node, &[&bot, &pinned]).await;
        assert_blobs_are_whole(node);
    }
}

async fn a_model_goes_with_its_object_where_drover_put_it(server: Server) {
    let size = 12 * MIB;
    let models =
        [("drover/one", "1", TinyLlama::new(45).size(size)), ("drover/one", "2", TinyLlama::new(45).size(size))];
    let fleet = Fleet::with_mirror(server, &models).await;
    let (one, two) = (fleet.model("drover/one:1"), fleet.model("drover/one:2"));
    fleet.nodes[0].pull(&one).await.expect("a pull by hand");
    let deletes =
        |name: &str, model: &str| pull_manifest(name, model).replace("insecure", "deletionPolicy: Delete, insecure");
    fleet.until("onode", "node-1", "is seen with it", |s| s["modelCount"] == 1).await;
    fleet.apply(&deletes("one", &one)).await;
    fleet.wait_ready("mpull", "one").await;
    let ready = fleet.get("mpull", "one").await;
    let adopted = |name: &str| {
        ready["status"]["nodes"].as_array().expect("nodes").iter().any(|n| n["node"] == name && n["adopted"] == true)
    };
    assert!(adopted("node-1") && !adopted("node-2"), "{}", ready["status"]);
    assert_eq!(ready["metadata"]["finalizers"], serde_json::json!(["drover.dev/pull"]));
    assert_eq!(fleet.get("onode", "node-2").await["status"]["pulled"], serde_json::json!([one]));

    // All layers are the same ones; the pull and the deletion meet on the node.
    fleet.apply(&deletes("two", &two)).await;
    fleet.delete("mpull", "one").await;
    fleet.wait_ready("mpull", "two").await;
    only(&fleet.nodes[0], &[&one, &two]).await;
    only(&fleet.nodes[1], &[&two]).await;
    assert_blobs_are_whole(&fleet.nodes[1]);
    let events = fleet.events("ModelPull", "one").await;
    assert!(events.iter().any(|reason| reason == "Retained"), "{events:?}");

    // Somebody else wants it on one node; it stays there.
    let keep = pull_manifest("keep", &two).replace("insecure", "nodeSelector: {matchLabels: {node: node-1}}, insecure");
    fleet.apply(&keep).await;
    fleet.wait_ready("mpull", "keep").await;
    fleet.delete("mpull", "two").await;
    only(&fleet.nodes[0], &[&one, &two]).await;
    only(&fleet.nodes[1], &[]).await;
    fleet.until("onode", "node-2", "forgets it", |s| s["pulled"].is_null()).await;

    // Retain is the default: no finalizer, the model stays.
    assert!(fleet.get("mpull", "keep").await["metadata"]["finalizers"].is_null());
    fleet.delete("mpull", "keep").await;
    only(&fleet.nodes[0], &[&one, &two]).await;
}

async fn logins_turns_and_a_node_that_does_not_reach_the_mirror(server: Server) {
    let models = [
        ("drover/big", "1", TinyLlama::new(46).size(BIG)),
        ("drover/low", "1", TinyLlama::new(47)),
        ("drover/high", "1", TinyLlama::new(48)),
        ("secret/bot", "1", TinyLlama::new(49)),
        ("drover/far", "1", TinyLlama::new(50)),
        ("drover/pin", "1", TinyLlama::new(51)),
    ];
    let mut fleet = Fleet::with_mirror(server, &models).await;

    // A login comes from a Secret, and what is wrong with it is said.
    fleet.front.protect("secret/bot", "Basic bWU6b3Blbg==");
    let secret = fleet.model("secret/bot:1");
    fleet.apply(&pull_manifest("secret", &secret).replace("insecure", "pullSecret: {name: login}, insecure")).await;
    fleet
        .until("mpull", "secret", "asks for the Secret", |s| {
            has_reason(s, "PullSecretUnusable") && message(s).contains("Secret login")
        })
        .await;
    let login = |password: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: login}}\ntype: kubernetes.io/dockerconfigjson\n\
             stringData: {{'.dockerconfigjson': '{{\"auths\": {{\"{}\": {{\"username\": \"me\", \"password\": \"{password}\"}}}}}}'}}\n",
            fleet.front.address()
        )
    };
    fleet.apply(&login("wrong-hush")).await;
    fleet.until("mpull", "secret", "is refused", |s| has_reason(s, "Unauthorized")).await;
    fleet.apply(&login("open")).await;
    fleet.wait_ready("mpull", "secret").await;

    // One node at a time, and the more important one first.
    fleet.front.limit_bandwidth(Some(4 * MIB));
    let big = fleet.model("drover/big:1");
    fleet.apply(&pull_manifest("big", &big).replace("insecure", "parallelism: 1, insecure")).await;
    let waits = |s: &Value| nodes(s).iter().any(|n| text(&n["message"]).contains("spec.parallelism is 1"));
    fleet.until("mpull", "big", "one node waits for the other", |s| s["phase"] == "Pulling" && waits(s)).await;
    for (name, priority) in [("low", -1), ("high", 7)] {
        let only_first = format!("nodeSelector: {{matchLabels: {{node: node-1}}}}, priority: {priority}, insecure");
        let model = fleet.model(&format!("drover/{name}:1"));
        fleet.apply(&pull_manifest(name, &model).replace("insecure", &only_first)).await;
        fleet.until("mpull", name, "waits", |s| message(s).contains("another pull on this node")).await;
    }
    fleet.front.limit_bandwidth(None);
    for name in ["big", "low", "high"] {
        fleet.wait_ready("mpull", name).await;
    }
    let log = fleet.controller.process().log();
    let pulled = |model: &str| {
        log.find(&format!("drover/{model}:1\" model.digest"))
            .or_else(|| {
                log.lines().position(|line| line.contains("pulled") && line.contains(&format!("drover/{model}:1")))
            })
            .unwrap_or_else(|| panic!("{model} is not in the log"))
    };
    assert!(pulled("high") < pulled("low"));
    assert!(!log.contains("wrong-hush"), "a password is in the log");

    // The mirror's address is wrong for one node.
    let nowhere = format!(r#"{{"spec": {{"mirror": {{"url": "http://127.0.0.1:{}"}}}}}}"#, free_port());
    fleet.patch("onode", "node-2", &nowhere).await;
    let generation = fleet.get("onode", "node-2").await["metadata"]["generation"].take();
    fleet.until("onode", "node-2", "is seen with it", |s| s["observedGeneration"] == generation).await;
    let pin = fleet.registry.manifest_digest("drover/pin", "1").await;
    let pinned = fleet.model("drover/pin:1");
    fleet.apply(&pull_manifest("pin", &pinned).replace("insecure", &format!("digest: '{pin}', insecure"))).await;
    fleet.apply(&pull_manifest("far", &fleet.model("drover/far:1"))).await;
    fleet.wait_ready("mpull", "far").await;
    let far = fleet.get("mpull", "far").await;
    let bypassed: Vec<&str> = nodes(&far["status"])
        .iter()
        .filter(|n| text(&n["message"]).contains("directly: the node can't reach the mirror at http://127.0.0.1:"))
        .map(|n| text(&n["node"]))
        .collect();
    assert_eq!(bypassed, ["node-2"], "{}", far["status"]);
    let events = fleet.events("ModelPull", "far").await;
    assert_eq!(events.iter().filter(|reason| *reason == "MirrorBypassed").count(), 1, "{events:?}");
    let status = fleet.until("mpull", "pin", "does not go past the mirror", |s| {
        s["phase"] == "Degraded" && nodes(s).iter().any(|n| n["node"] == "node-2" && n["reason"] == "MirrorUnreachable")
    });
    assert!(!status.await.to_string().contains("drover-"), "a pull token is shown");
    assert_eq!(fleet.nodes[1].digest_of(&pinned).await, None);
    fleet.patch("onode", "node-2", r#"{"spec": {"mirror": null}}"#).await;
    fleet.wait_ready("mpull", "pin").await;
    for node in &fleet.nodes {
        assert!(names(node).await.iter().all(|name| !name.contains("drover-")));
    }
}

async fn what_is_absent_slow_or_not_mirrored_holds_up_nobody(server: Server) {
    let models = [
        ("drover/big", "1", TinyLlama::new(52).size(BIG)),
        ("drover/small", "1", TinyLlama::new(53)),
        ("drover/bot", "1", TinyLlama::new(54)),
    ];
    let fleet = Fleet::with_mirror(server, &models).await;
    fleet.patch("onode", "node-2", r#"{"spec": {"mirror": {"disabled": true}}}"#).await;

    // Tried again and again, told ever more rarely.
    const ABSENT: usize = 20;
    let absent =
        (0..ABSENT).map(|n| pull_manifest(&format!("absent-{n}"), &fleet.model(&format!("drover/absent-{n}:1"))));
    fleet.apply(&absent.collect::<Vec<_>>().join("---\n")).await;
    for n in 0..ABSENT {
        fleet
            .until("mpull", &format!("absent-{n}"), "failed", |s| {
                has_reason(s, "NoSuchModel") && nodes(s).iter().all(|n| n["phase"] == "Failed")
            })
            .await;
    }
    let marker = fleet.api.marker().await;
    let asked = manifests(&fleet, "absent-0");
    eventually("it is tried some more times", SOON, async || {
        let more = manifests(&fleet, "absent-0") - asked;
        if more >= 6 { Ok(()) } else { Err(format!("{more} times more")) }
    })
    .await;
    let writes = fleet.writes_since(marker).await.len();
    assert!(writes <= 5 * ABSENT, "{writes} writes for {ABSENT} objects that fail as before");

    // Whoever asks to come back later is not asked before, though the object would.
    fleet.front.retry_after("5");
    fleet.front.fail_with(Some(http::StatusCode::TOO_MANY_REQUESTS));
    fleet.apply(&pull_manifest("limited", &fleet.model("drover/bot:1")).replace("insecure", ON_FIRST)).await;
    fleet.until("mpull", "limited", "is told to wait", |s| has_reason(s, "RateLimited")).await;
    let told = Instant::now();
    fleet.front.fail_with(None);
    fleet.wait_ready("mpull", "limited").await;
    assert!(told.elapsed() > Duration::from_secs(3), "asked again after {:?}", told.elapsed());

    // A pull past its timeout lets the others go first, and goes on afterwards.
    fleet.front.limit_bandwidth(Some(2 * MIB));
    fleet.apply(&pull_manifest("big", &fleet.model("drover/big:1")).replace("insecure", "timeout: 1s, insecure")).await;
    fleet.until("mpull", "big", "under way", |s| s["phase"] == "Pulling" && s["progress"].as_i64() > Some(0)).await;
    fleet.apply(&pull_manifest("small", &fleet.model("drover/small:1"))).await;
    fleet.wait_ready("mpull", "small").await;
    let big = fleet.get("mpull", "big").await;
    assert!(big["status"]["phase"] != "Ready" && condition(&big["status"], "Stalled", "True"), "{}", big["status"]);
    fleet.front.limit_bandwidth(None);
    fleet.wait_ready("mpull", "big").await;

    let metrics = fleet.controller.metrics().await;
    for line in [
        "drover_pull_attempts_total{outcome=\"success\",reason=\"\"}",
        "drover_pull_attempts_total{outcome=\"failure\",reason=\"TimedOut\"}",
        "drover_pull_duration_seconds_count",
        "drover_pull_bytes_total",
        "drover_pull_running",
        "drover_pull_waiting",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }

    // Without a mirror too a moved tag is followed.
    let bot = fleet.model("drover/bot:1");
    fleet
        .apply(&pull_manifest("bot", &bot).replace("insecure", "updatePolicy: Always, checkInterval: 10s, insecure"))
        .await;
    fleet.wait_ready("mpull", "bot").await;
    publish(&fleet.registry, &fleet.nodes[0], &[("drover/bot", "1", TinyLlama::new(55))]).await;
    let moved = fleet.registry.manifest_digest("drover/bot", "1").await;
    fleet.until("mpull", "bot", "follows on both nodes", |s| holds(s, &moved)).await;
    assert!(fleet.events("ModelPull", "bot").await.iter().any(|reason| reason == "TagMoved"));
}

async fn names(node: &Ollama) -> Vec<String> {
    let tags = node.tags().await;
    let models = tags["models"].as_array().expect("models");
    let mut names: Vec<String> = models.iter().map(|model| text(&model["name"]).to_owned()).collect();
    names.sort();
    names
}

/// The node holds these names and no others, in particular none that Drover left behind.
async fn only(node: &Ollama, expected: &[&str]) {
    let mut expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    expected.sort();
    eventually(&format!("the node holds {expected:?} only"), Duration::from_secs(20), async || {
        let names = names(node).await;
        if names == expected { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
}

/// What is stored under a digest has this digest.
fn assert_blobs_are_whole(node: &Ollama) {
    let blobs = std::fs::read_dir(node.models_dir().join("blobs")).expect("blobs");
    for blob in blobs.map(|blob| blob.expect("a blob").path()) {
        let name = blob.file_name().expect("a name").to_string_lossy().into_owned();
        let Some(hex) = name.strip_prefix("sha256-").filter(|hex| hex.len() == 64) else { continue };
        let bytes = std::fs::read(&blob).expect("a blob");
        let found = Sha256::digest(&bytes).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        assert_eq!(found, hex, "{} bytes in {}", bytes.len(), blob.display());
    }
}

/// How often the registry was asked for a model's manifest.
fn manifests(fleet: &Fleet, model: &str) -> u64 {
    let path = format!("/v2/drover/{model}/manifests/");
    fleet.front.served().iter().filter(|(what, _)| what.contains(&path)).map(|(_, served)| served.requests).sum()
}

fn holds(status: &Value, digest: &str) -> bool {
    status["phase"] == "Ready" && nodes(status).iter().all(|node| node["digest"] == digest)
}

fn has_reason(status: &Value, reason: &str) -> bool {
    condition(status, "Ready", "False") && status["conditions"][0]["reason"] == reason
}

fn message(status: &Value) -> &str {
    text(&status["conditions"][0]["message"])
}

fn nodes(status: &Value) -> &[Value] {
    status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
