//! What clients choose from: chains, profiles and workers stand in lists beside models, by names that can be sent back.

use drover::routing_table::{RoutingTable, compile::Objects, directory};
use serde_json::{Value, json};

use crate::{
    clients::{ollama, python},
    parts::Scratch,
    support::{
        FakeNode, World,
        declared::{Fleet, chat, object, steps, talks},
        key,
        real::{SENTENCE, real},
        with_keys,
    },
};

/// The names of a list, in its order.
fn names(list: &Value, names: &str) -> Vec<String> {
    let entries = list.as_array().expect("a list").iter();
    entries.map(|entry| entry[names].as_str().expect("a name").to_owned()).collect()
}

/// A node with a small and a big model, and one of each kind that stands for models; of some, one that comes to nothing.
async fn fleet() -> (FakeNode, Fleet) {
    let node = FakeNode::start("n1").await;
    let fleet = Fleet::default()
        .node(&node, &[talks("small:1", "1B"), talks("big:1", "8B")])
        .chain("extract", steps(&["small:1", "big:1"]))
        .chain("broken", steps(&["gone:1"]))
        .profile("task", json!({ "maxParameters": "2B" }))
        .profile("sees", json!({ "capabilities": ["vision"] }))
        .worker("docs", json!({ "model": "big:1" }))
        .worker("lost", json!({ "model": "gone:1" }))
        // Of the same age as the chain, which comes before it.
        .worker("extract", json!({ "model": "big:1" }));
    (node, fleet)
}

#[tokio::test]
async fn every_name_in_a_list_can_be_sent_back_and_says_what_it_is() {
    let (_node, fleet) = fleet().await;
    let world = World::start(fleet.table()).await;
    let tags = world.get("/api/tags").await.json()["models"].clone();
    let listed = names(&tags, "name");
    assert_eq!(listed, ["extract", "task", "docs", "worker/extract", "big:1", "small:1"]);
    assert_eq!(names(&world.get("/v1/models").await.json()["data"], "id"), listed);
    let with_version = world.http.get(format!("{}/v1/models", world.url)).header("anthropic-version", "2023-06-01");
    let anthropic: Value = serde_json::from_str(&with_version.send().await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(names(&anthropic["data"], "id"), listed);

    let said = |at: usize| (tags[at]["details"]["kind"].as_str(), tags[at]["details"]["parent_model"].as_str());
    assert_eq!(said(0), (Some("chain"), Some("small:1")));
    assert_eq!(said(1), (Some("profile"), Some("small:1")));
    assert_eq!(said(3), (Some("worker"), Some("big:1")));
    assert_eq!(said(5), (None, Some("")));
    assert_eq!(tags[0]["digest"], tags[5]["digest"], "what would answer first");
    let answers = ["small:1", "small:1", "big:1", "big:1", "big:1", "small:1"];
    for (name, model) in listed.iter().zip(answers) {
        // As some clients complete every name.
        for name in [name.clone(), name.replace(":1", "") + if name.contains(':') { ":1" } else { ":latest" }] {
            let answer = world.post("/api/chat", &chat(&name)).await;
            assert_eq!((answer.status, answer.header("x-drover-model")), (200, model), "{name}: {}", answer.text);
        }
        let owner = world.get(&format!("/v1/models/{name}")).await.json()["owned_by"].clone();
        assert_eq!(owner == "drover", name.ends_with(":1"), "{name}: {owner}");
    }
}

#[tokio::test]
async fn a_key_lists_the_names_that_it_may_be_used_for_and_no_others() {
    let (_node, fleet) = fleet().await;
    let only = |models: &[&str]| drover::routing_table::Key {
        models: Some(models.iter().map(|&model| model.into()).collect()),
        ..key("k")
    };
    let table = with_keys(fleet.table(), [("by-name", only(&["docs", "chain/*"])), ("by-model", only(&["small:*"]))]);
    let world = World::start(table).await;
    for (secret, expected) in [("by-name", &["extract", "docs"][..]), ("by-model", &["task", "small:1"])] {
        let asked = async |path: &str| {
            let answer = world.http.get(format!("{}{path}", world.url)).bearer_auth(secret).send().await.unwrap();
            serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap()
        };
        assert_eq!(names(&asked("/api/tags").await["models"], "name"), expected, "{secret}");
        assert_eq!(names(&asked("/v1/models").await["data"], "id"), expected, "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn official_clients_choose_a_chain_a_profile_or_a_worker_from_their_lists() {
    let dir = Scratch::new();
    let (_node, world) = real(&dir).await;
    let mut table = RoutingTable::clone(&world.table.load());
    let objects = Objects {
        chains: vec![object("FallbackChain", "extract", steps(&["deployment/support-bot"]), json!({}))],
        profiles: vec![object("RoutingProfile", "task", json!({ "capabilities": ["chat"] }), json!({}))],
        workers: vec![object("Worker", "docs", json!({ "model": "chain/extract" }), json!({}))],
        ..Objects::default()
    };
    directory::fill(table.namespaces.get_mut("default").unwrap(), "default", &objects);
    world.table.store(table.into());
    let command_line = async {
        let listed = ollama(&dir, &world.url, &["ls"]).await;
        assert!(["extract", "task", "docs"].iter().all(|name| listed.contains(name)), "{listed}");
        assert_eq!(ollama(&dir, &world.url, &["run", "extract", "Who are you?"]).await.trim(), SENTENCE);
    };
    let listed = [world.url.as_str(), "extract=chain", "task=profile", "docs=worker"];
    tokio::join!(python("lists_client.py", &listed), command_line);
}
