//! Runs once more, on a real node.

use drover::{domain::run_record::Outcome, ollama, ports::NodeApi, records::WhenDown, routing_table::Node};
use serde_json::{Value, json};

use super::{Store, world};
use crate::{
    parts::{Scratch, gguf::TinyLlama, ollama::Ollama},
    support::{FakeNode, World, alias, deployment, holder, table, version},
};

/// A version of `support-bot` on a real node, which says three tokens.
async fn terse(dir: &Scratch, store: &Store, capture: bool) -> (Ollama, World) {
    let node = Ollama::start("n1", dir.path()).await;
    let gguf = dir.join("model.gguf");
    TinyLlama::new(1).write(&gguf).unwrap();
    node.create("bot:1", &gguf).await;
    ollama::Ollama::new().unwrap().copy(&node.url(), "bot:1", &alias("v1.0.0")).await.unwrap();
    let mut target = version("v1.0.0", &[]);
    let mut held = holder(&FakeNode::start("n1").await);
    held.node = Node { url: node.url(), ..(*held.node).clone() }.into();
    target.tag = "bot:1".into();
    target.digest.clone_from(&held.digest);
    target.holders = vec![held];
    target.parameters = [("temperature".to_owned(), json!(0.5)), ("num_predict".to_owned(), json!(3))].into();
    let world = world(table(Some(deployment(target, None)), &[]), store, WhenDown::Refuse, capture).await;
    (node, world)
}

fn said(text: &str) -> String {
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter_map(|line| line["message"]["content"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_says_the_same_with_the_same_seed_and_says_why_it_can_not() {
    let dir = Scratch::new();
    let store = Store::in_folder(&dir.join("records"));
    let (_node, world) = terse(&dir, &store, true).await;
    let asked = json!({ "model": "support-bot", "messages": [{ "role": "user", "content": "Who are you?" }],
        "options": { "seed": 42 }, "keep_alive": "7m" });
    let first = world.post("/api/chat", &asked).await;
    assert!(first.status == 200 && !said(&first.text).is_empty(), "{}", first.text);
    let id = first.header("x-drover-run-id").to_owned();

    // The version serves with other parameters by now; the run had its own.
    let mut changed = (**world.table.load()).clone();
    let deployed = changed.namespaces.get_mut("default").unwrap().deployments.get_mut("support-bot").unwrap();
    deployed.stable.parameters.insert("num_predict".into(), json!(24));
    let holder = &mut deployed.stable.holders[0];
    holder.node = Node { keep_alive: Some("2h".into()), ..(*holder.node).clone() }.into();
    world.table.store(changed.clone().into());
    assert_ne!(said(&world.post("/api/chat", &asked).await.text), said(&first.text), "it matters");

    let path = format!("/drover/v1/runs/{id}/replay");
    let again = world.post_nothing(&path).await;
    assert_eq!((again.status, said(&again.text)), (200, said(&first.text)));
    assert_eq!(again.header("content-type"), "application/x-ndjson");
    let replay = store.records.get(again.header("x-drover-run-id").parse().unwrap()).await.unwrap().expect("a record");
    let original = store.records.get(id.parse().unwrap()).await.unwrap().expect("a record");
    assert_eq!((replay.replay_of, replay.outcome), (Some(original.id), Outcome::Answered));
    let values = |record: &drover::ports::RunRecord| {
        record.parameters.iter().map(|(name, effective)| (name.clone(), effective.value.clone())).collect::<Vec<_>>()
    };
    assert_eq!(values(&replay), values(&original));
    assert_eq!(replay.keep_alive.map(|keep| keep.value), Some(json!("7m")), "not what the node says by now");

    let namespace = changed.namespaces.get_mut("default").unwrap();
    namespace.deployments.get_mut("support-bot").unwrap().stable.holders[0].digest = "sha256:eeee".into();
    world.table.store(changed.into());
    let refused = world.post_nothing(&path).await;
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (409, Some("not_replayable")));
    assert!(message.contains("no ready node has bot:1 with digest sha256:dddd"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_not_kept_can_be_given_again() {
    let dir = Scratch::new();
    let store = Store::in_folder(&dir.join("records"));
    let (_node, world) = terse(&dir, &store, false).await;
    let asked =
        json!({ "model": "support-bot", "messages": [{ "role": "user", "content": "Who are you?" }], "seed": 7 });
    let first = world.post("/v1/chat/completions", &asked).await;
    let path = format!("/drover/v1/runs/{}/replay", first.header("x-drover-run-id"));
    let refused = world.post_nothing(&path).await;
    assert!(refused.status == 409 && refused.text.contains("its request was not kept"), "{}", refused.text);
    let again = world.post(&path, &asked).await;
    let content = |answer: &crate::support::Answer| answer.json()["choices"][0]["message"]["content"].clone();
    assert_eq!((again.status, content(&again)), (200, content(&first)));
}
