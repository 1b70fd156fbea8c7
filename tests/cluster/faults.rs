//! What goes wrong around a pull: a node that can't reach the mirror, a disk that runs full, an API server that is away,
//! a thousand models that don't exist.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use serde_json::{Value, json};

use crate::{
    fleet::{node_manifest, pull_manifest},
    namespace::{Namespace, SOON, condition},
    support::{
        Scratch,
        disk::Disk,
        drover::Drover,
        eventually, free_port,
        gguf::TinyLlama,
        kube_api::{KubeApi, Server},
        models::publish,
        network::Network,
        ollama::Ollama,
        registry::{Registry, RegistryFront},
    },
    world::{api, on_both_apis, own_api},
};

const MIB: u64 = 1 << 20;
const ABSENT: usize = 1000;

on_both_apis! {
    a_node_that_cannot_reach_the_mirror_pulls_directly_and_says_so,
    a_full_disk_is_named_and_the_pull_goes_on_when_there_is_room,
    a_pull_ends_while_the_api_server_is_away,
    a_thousand_absent_models_harm_nothing_else,
}

/// Two nodes on machines of their own. Both reach the registry; the mirror, on another address, only one of them does.
async fn a_node_that_cannot_reach_the_mirror_pulls_directly_and_says_so(server: Server) {
    let scratch = Scratch::new();
    let network = Network::start();
    let namespace = Namespace::new(api(server).await, "faults").await;
    let registry = Registry::start(&scratch.join("registry")).await;
    let near = Ollama::start_in(network.host(), "near", &scratch.join("near")).await;
    let far = Ollama::start_in(network.host(), "far", &scratch.join("far")).await;
    far.host().cut_off(&network.second());
    let maker = Ollama::start("maker", &scratch.join("maker")).await;
    let models = [("drover/alpha", "1", TinyLlama::new(70)), ("drover/beta", "1", TinyLlama::new(73))];
    publish(&registry, &maker, &models).await;
    let front = RegistryFront::start_at(&registry, &network.first(), free_port()).await;
    let key = scratch.join("key");
    fs::write(&key, "a key of sixteen letters at least").expect("a key file");
    let key = key.display().to_string();
    let (port, own) = (free_port(), scratch.join("mirror"));
    let upstream = format!("drover={}", front.url());
    let mirror = ["--mirror-key-file", &key, "--upstream", &upstream];
    let _mirror = Drover::mirror_at(&network.second(), port, &own, &mirror).await;
    let url = format!("http://{}:{port}", network.second());
    let more = ["--mirror-url", &url, "--mirror-key-file", &key];
    let _controller =
        Drover::controller_with(&namespace.api.kubeconfig(), &namespace.name, &[], scratch.path(), &more).await;
    for (name, node) in [("near", &near), ("far", &far)] {
        namespace.apply(&node_manifest(name, &node.url())).await;
    }
    let model = format!("{}/drover/alpha:1", front.address());
    namespace.apply(&pull_manifest("alpha", &model)).await;
    namespace.wait_ready("mpull", "alpha").await;

    let status = namespace.get("mpull", "alpha").await["status"].clone();
    let said = |name: &str| {
        let nodes = status["nodes"].as_array().expect("nodes");
        nodes.iter().find(|node| node["node"] == name).expect("the node")["message"].clone()
    };
    assert!(said("far").as_str().is_some_and(|m| m.contains("can't reach the mirror")), "{status}");
    assert_eq!(said("near"), Value::Null, "{status}");
    let digest = registry.manifest_digest("drover/alpha", "1").await;
    for node in [&near, &far] {
        assert_eq!(node.digest_of(&model).await.as_ref(), Some(&digest));
        assert_eq!(names(node).await, std::slice::from_ref(&model), "the plain name and no other");
    }
    let events = namespace.events("ModelPull", "alpha").await;
    assert_eq!(events.iter().filter(|reason| *reason == "MirrorBypassed").count(), 1, "{events:?}");

    // Only the mirror knows whose name this is: it is what there is to look after.
    namespace.apply(&pull_manifest("beta", "drover/beta:1")).await;
    let (asked, advice) = (format!("the node can't reach the mirror at {url}"), "check mirror-advertise");
    namespace
        .until("mpull", "beta", "both faults are told", |status| {
            let message = status["conditions"][0]["message"].as_str().unwrap_or_default();
            message.contains("registry.ollama.ai") && message.contains(&asked) && message.contains(advice)
        })
        .await;
}

async fn a_full_disk_is_named_and_the_pull_goes_on_when_there_is_room(server: Server) {
    let parts = Parts::start(server, &[("drover/big", "1", TinyLlama::new(71).size(24 * MIB))]).await;
    let (own, folder) = (parts.scratch.join("small"), parts.scratch.join("small/models"));
    let disk = Disk::mount(&folder, 16);
    let small = Ollama::start("small", &own).await;
    parts.namespace.apply(&node_manifest("small", &small.url())).await;
    parts.namespace.apply(&pull_manifest("big", &parts.model("drover/big:1"))).await;
    parts
        .namespace
        .until("mpull", "big", "the full disk is named", |status| {
            let message = status["conditions"][0]["message"].as_str().unwrap_or_default();
            message.contains("free disk space on the node") && condition(status, "Stalled", "True")
        })
        .await;
    disk.resize(64);
    parts.namespace.wait_ready("mpull", "big").await;
    let digest = parts.registry.manifest_digest("drover/big", "1").await;
    assert_eq!(small.digest_of(&parts.model("drover/big:1")).await, Some(digest));
    assert!(parts.front.blob_bytes() < 25 * MIB, "the mirror fetched it once: {}", parts.front.blob_bytes());
}

async fn a_pull_ends_while_the_api_server_is_away(server: Server) {
    let parts = Parts::alone(server, &[("drover/big", "1", TinyLlama::new(72).size(24 * MIB))]).await;
    let node = parts.node("node-1").await;
    parts.front.limit_bandwidth(Some(MIB));
    parts.namespace.apply(&pull_manifest("big", &parts.model("drover/big:1"))).await;
    parts.namespace.until("mpull", "big", "under way", |status| status["progress"].as_i64() > Some(0)).await;
    parts.namespace.api.stop();
    parts.front.limit_bandwidth(None);
    let digest = parts.registry.manifest_digest("drover/big", "1").await;
    let model = parts.model("drover/big:1");
    eventually("the node has it meanwhile", SOON, async || match node.digest_of(&model).await {
        Some(held) if held == digest => Ok(()),
        held => Err(format!("{held:?}")),
    })
    .await;
    // As long as an outage may last; what counts is that watches and writes are found dead, not just slow.
    tokio::time::sleep(Duration::from_secs(30)).await;
    parts.namespace.api.start_again().await;
    parts.namespace.wait_ready("mpull", "big").await;
    assert_eq!(names(&node).await, [model], "the plain name and no other");
    assert!(parts.front.blob_bytes() < 25 * MIB, "fetched once: {}", parts.front.blob_bytes());
}

async fn a_thousand_absent_models_harm_nothing_else(server: Server) {
    let parts = Parts::start(server, &[("drover/alpha", "1", TinyLlama::new(73))]).await;
    let nodes = [parts.node("node-1").await, parts.node("node-2").await];
    let absent = (0..ABSENT).map(|number| {
        json!({
            "apiVersion": "drover.dev/v1alpha1",
            "kind": "ModelPull",
            "metadata": {"name": format!("absent-{number}")},
            "spec": {"model": parts.model(&format!("drover/absent-{number}:1")), "insecure": true},
        })
    });
    let before = parts.namespace.api.marker().await;
    let create = async |pull| parts.namespace.create("mpull", &pull).await;
    stream::iter(absent).for_each_concurrent(16, create).await;
    parts.namespace.apply(&pull_manifest("alpha", &parts.model("drover/alpha:1"))).await;
    parts.namespace.wait_ready("mpull", "alpha").await;
    let mut named = 0;
    eventually("all absent ones are named", 3 * SOON, async || {
        while named < ABSENT {
            let status = parts.namespace.get("mpull", &format!("absent-{named}")).await["status"].take();
            let message = status["conditions"][0]["message"].as_str().unwrap_or_default();
            if status["phase"] != "Failed" || !message.contains("was not found: check the spelling") {
                return Err(format!("absent-{named}: {status}"));
            }
            named += 1;
        }
        Ok(())
    })
    .await;
    // They are tried again, and nobody is told what is known already.
    let mut writes: BTreeMap<String, usize> = BTreeMap::new();
    for write in parts.namespace.writes_since(before).await {
        if write.resource == "modelpulls/status" && !write.user_agent.starts_with("kubectl") {
            *writes.entry(write.name).or_default() += 1;
        }
    }
    let most = writes.iter().max_by_key(|(_, count)| **count).expect("writes");
    assert!(*most.1 <= 6, "{most:?}");
    for node in &nodes {
        assert_eq!(names(node).await, [parts.model("drover/alpha:1")]);
    }
}

/// What a pull through a mirror needs, but for nodes.
struct Parts {
    _controller: Drover,
    _mirror: Drover,
    front: RegistryFront,
    registry: Registry,
    namespace: Namespace,
    scratch: Scratch,
}

impl Parts {
    async fn start(server: Server, models: &[(&str, &str, TinyLlama)]) -> Self {
        Self::start_with(Scratch::new(), api(server).await, models).await
    }

    /// The same on an API server of its own, which nobody misses when it is stopped.
    async fn alone(server: Server, models: &[(&str, &str, TinyLlama)]) -> Self {
        let scratch = Scratch::new();
        let api = own_api(server, &scratch.join("kube")).await;
        Self::start_with(scratch, Arc::new(api), models).await
    }

    async fn start_with(scratch: Scratch, api: Arc<KubeApi>, models: &[(&str, &str, TinyLlama)]) -> Self {
        let namespace = Namespace::new(api, "faults").await;
        let registry = Registry::start(&scratch.join("registry")).await;
        let maker = Ollama::start("maker", &scratch.join("maker")).await;
        publish(&registry, &maker, models).await;
        let front = RegistryFront::start(&registry).await;
        let port = free_port();
        let mirror = Drover::mirror(port, &scratch.join("mirror"), &[]).await;
        let more = ["--mirror-url", &format!("http://127.0.0.1:{port}")];
        let kubeconfig = namespace.api.kubeconfig();
        let controller = Drover::controller_with(&kubeconfig, &namespace.name, &[], scratch.path(), &more).await;
        Self { _controller: controller, _mirror: mirror, front, registry, namespace, scratch }
    }

    async fn node(&self, name: &str) -> Ollama {
        let node = Ollama::start(name, &self.scratch.join(name)).await;
        self.namespace.apply(&node_manifest(name, &node.url())).await;
        node
    }

    fn model(&self, reference: &str) -> String {
        format!("{}/{reference}", self.front.address())
    }
}

/// Every name on a node.
async fn names(node: &Ollama) -> Vec<String> {
    let tags = node.tags().await;
    let models = tags["models"].as_array().expect("models");
    models.iter().map(|model| model["name"].as_str().expect("a name").to_owned()).collect()
}
