//! Two versions of the same weights on real nodes: neither takes the other's runner away.

use std::{collections::BTreeSet, process::Command, sync::Arc};

use drover::{
    api::{ModelDeployment, ModelVersion, OllamaNode},
    ollama,
    ports::NodeApi,
    routing_table::{
        RoutingTable,
        compile::{Objects, compile},
    },
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    parts::{Scratch, gguf::TinyLlama, ollama::Ollama},
    support::{World, alias, table},
};

const VERSIONS: [(&str, u32); 2] = [("v1.0.0", 512), ("v1.1.0", 1024)];

fn object<T: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: Value, status: Value) -> Arc<T> {
    let metadata = json!({ "name": name, "namespace": "default" });
    let object = json!({ "apiVersion": "drover.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec,
        "status": status });
    Arc::new(serde_json::from_value(object).unwrap())
}

/// The node as the controller would describe it.
async fn described(node: &Ollama, name: &str) -> Arc<OllamaNode> {
    let probe = ollama::Ollama::new().unwrap().probe(&node.url()).await.unwrap();
    let versions: Vec<_> = probe.models.iter().filter(|model| model.name.starts_with("drover-")).collect();
    let versions: Vec<Value> = versions
        .iter()
        .map(|model| {
            let loaded = probe.loaded.contains(&model.name);
            json!({ "alias": model.name, "digest": model.digest, "loaded": loaded })
        })
        .collect();
    let models: Vec<_> = probe.models.iter().filter(|model| model.name == "bot:1").collect();
    let ready = json!([{ "type": "Ready", "status": "True", "reason": "Ready", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z" }]);
    let status = json!({ "conditions": ready, "models": models, "loaded": probe.loaded, "versions": versions });
    object("OllamaNode", name, json!({ "url": node.url(), "keepAlive": "10m" }), status)
}

/// The table for a canary at 50 % over these nodes.
async fn compiled(nodes: &[&Ollama]) -> RoutingTable {
    let mut objects = Objects::default();
    for (index, node) in nodes.iter().enumerate() {
        objects.nodes.push(described(node, &format!("n{}", index + 1)).await);
    }
    let digest =
        nodes[0].digest_of("bot:1").await.map(|digest| format!("sha256:{}", digest.trim_start_matches("sha256:")));
    let side = |version: &str| {
        json!({ "version": version, "tag": "bot:1", "digest": digest, "weight": 50, "step": 0,
        "stepStartedAt": "2026-01-01T00:00:00Z" })
    };
    for (version, window) in VERSIONS {
        let spec = json!({ "model": "support-bot", "version": version, "source": { "ollama": { "tag": "bot:1" } },
            "parameters": { "num_ctx": window } });
        objects.versions.push(object::<ModelVersion>(
            "ModelVersion",
            version,
            spec,
            json!({ "digest": digest, "alias": alias(version) }),
        ));
    }
    let status = json!({ "revision": 1, "rolloutId": "r1", "stable": side("v1.0.0"), "canary": side("v1.1.0") });
    objects.deployments.push(object::<ModelDeployment>(
        "ModelDeployment",
        "support-bot",
        json!({ "model": "support-bot", "version": "v1.1.0" }),
        status,
    ));
    compile(&objects, Timestamp::now())
}

/// Two nodes that hold both versions: a copy has the digest, which a model made twice has not.
async fn two_nodes(dir: &Scratch) -> (Ollama, Ollama) {
    let folders = ["n1", "n2"].map(|name| dir.path().join(name));
    folders.iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
    let first = Ollama::start("n1", &folders[0]).await;
    let gguf = dir.path().join("model.gguf");
    TinyLlama::new(1).says("Hello.").write(&gguf).unwrap();
    first.create("bot:1", &gguf).await;
    for (version, _) in VERSIONS {
        ollama::Ollama::new().unwrap().copy(&first.url(), "bot:1", &alias(version)).await.unwrap();
    }
    let copied = Command::new("cp").arg("-r").arg(first.models_dir()).arg(&folders[1]).status().unwrap();
    assert!(copied.success());
    (first, Ollama::start("n2", &folders[1]).await)
}

/// Asks so many times, by turns one version and the other; the versions and nodes that answered.
async fn ask(world: &World, times: usize, model: &str) -> BTreeSet<(String, String)> {
    let mut seen = BTreeSet::new();
    for _ in 0..times {
        let asked = json!({ "model": model, "prompt": "Who are you?", "stream": false });
        let answer = world.post("/api/generate", &asked).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        seen.insert((answer.header("x-drover-version").to_owned(), answer.header("x-drover-node").to_owned()));
    }
    seen
}

fn starts(node: &mut Ollama) -> usize {
    node.process().log().matches("starting runner").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_share_weights_but_no_window_have_nodes_of_their_own_and_nothing_is_loaded_anew() {
    let dir = Scratch::new();
    let (mut first, mut second) = two_nodes(&dir).await;
    let both = compiled(&[&first, &second]).await;
    assert!(both.warnings.is_empty(), "{:?}", both.warnings);
    let world = World::start(table(None, &[])).await;
    world.table.store(both.into());
    let seen = ask(&world, 4, "support-bot").await;
    let nodes: BTreeSet<_> = seen.iter().map(|(_, node)| node).collect();
    assert_eq!((seen.len(), nodes.len()), (2, 2), "each version on a node of its own: {seen:?}");
    let before = (starts(&mut first), starts(&mut second));
    assert!(before.0 >= 1 && before.1 >= 1, "a node's log says when a runner starts");
    assert_eq!(ask(&world, 10, "support-bot").await, seen);
    // A new table, which has seen what is loaded, changes nothing.
    world.table.store(compiled(&[&first, &second]).await.into());
    assert_eq!(ask(&world, 4, "support-bot").await, seen);
    assert_eq!((starts(&mut first), starts(&mut second)), before);
    let told = world.post("/drover/v1/explain", &json!({ "model": "support-bot" })).await.json();
    let lacking = told["steps"][0]["nodes"].as_array().unwrap().iter().find(|node| node["state"] == "Lacking").unwrap();
    assert!(lacking["why"].as_str().unwrap().contains("same weights and other options"), "{told}");

    // On one node there is no room for two: a warning says so, and the wider window serves both.
    let alone = compiled(&[&first]).await;
    assert_eq!(alone.warnings.len(), 1, "{:?}", alone.warnings);
    assert!(
        alone.warnings[0].contains("not enough nodes") && alone.warnings[0].contains("num_ctx"),
        "{:?}",
        alone.warnings
    );
    world.table.store(alone.into());
    ask(&world, 2, "support-bot").await;
    let before = starts(&mut first);
    ask(&world, 6, "support-bot").await;
    ask(&world, 2, "bot:1").await;
    ask(&world, 2, "support-bot").await;
    assert_eq!(starts(&mut first), before);
}
