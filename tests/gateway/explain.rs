//! What a gateway says it would do with a request, and that it does so.

use std::{process::Command, time::Duration};

use drover::{
    gateway::Settings,
    routing_table::{Node, RoutingTable, Target},
};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    parts,
    support::{Act, Answer, FakeNode, World, canary, deployment, eventually, plain, table, version},
};

const EXPLAIN: &str = "/drover/v1/explain";

fn on(target: Target, name: &str, change: impl FnOnce(&mut Node)) -> Target {
    let mut target = target;
    let holder = target.holders.iter_mut().find(|holder| holder.node.name == name).unwrap();
    let mut node = (*holder.node).clone();
    change(&mut node);
    holder.node = node.into();
    target
}

async fn explain(world: &World, request: &Value) -> Value {
    let answer = world.post(EXPLAIN, request).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

fn state<'a>(explained: &'a Value, node: &str) -> (&'a str, &'a str) {
    let nodes = explained["steps"][0]["nodes"].as_array().unwrap();
    let view = nodes.iter().find(|view| view["node"] == node).unwrap();
    (view["state"].as_str().unwrap(), view["why"].as_str().unwrap())
}

async fn two_versions(weight: u8) -> (Vec<FakeNode>, World) {
    let nodes = FakeNode::start_many(3).await;
    let all: Vec<_> = nodes.iter().collect();
    let mut stable = version("v1.0.0", &all);
    stable.parameters = [("temperature".to_owned(), json!(0.2)), ("num_ctx".to_owned(), json!(2048))].into();
    let trial = version("v1.1.0", &all[..2]);
    let world = World::start(table(Some(deployment(stable, canary(weight, trial))), &[])).await;
    (nodes, world)
}

#[tokio::test]
async fn what_is_explained_is_what_the_next_request_gets_and_explaining_counts_nothing() {
    let (nodes, world) = two_versions(20).await;
    let mut canaries = 0;
    for turn in 0..50 {
        let request = json!({ "model": "support-bot", "options": { "seed": turn },
            "messages": [{ "role": "user", "content": format!("Hi {turn}") }] });
        let told = explain(&world, &request).await;
        for _ in 0..2 {
            assert_eq!(explain(&world, &request).await, told);
        }
        let answer = world.post("/api/chat", &request).await;
        let told = &told["resolved"];
        for (header, field) in [("version", "version"), ("node", "node"), ("reason", "reason"), ("digest", "digest")] {
            assert_eq!(told[field], answer.header(&format!("x-drover-{header}")), "turn {turn}: {told}");
        }
        canaries += usize::from(told["version"] == "v1.1.0");
    }
    assert_eq!(canaries, 10, "20 % of 50, however often somebody asked");
    assert_eq!((world.counts("v1.0.0").await, world.counts("v1.1.0").await), ((40, 0), (10, 0)));
    assert_eq!(nodes.iter().map(FakeNode::count).sum::<usize>(), 50);
}

#[tokio::test]
async fn a_canary_without_nodes_is_not_held_against_it_by_explaining() {
    let node = FakeNode::start("n1").await;
    let world =
        World::start(table(Some(deployment(version("v1", &[&node]), canary(100, version("v2", &[])))), &[])).await;
    let told = explain(&world, &json!({ "model": "support-bot" })).await;
    assert_eq!(told["resolved"]["reason"], "deployment support-bot: stable v1, canary v2 (100 %) has no ready node");
    assert_eq!(
        told["split"],
        json!([{ "side": "stable", "version": "v1", "weight": 0 },
        { "side": "canary", "version": "v2", "weight": 100 }])
    );
    assert_eq!(world.counts("v2").await, (0, 0));
    assert_eq!(node.count(), 0);
}

#[tokio::test]
async fn a_session_is_explained_to_the_node_that_it_stays_on() {
    let (_nodes, world) = two_versions(50).await;
    for session in 0..20 {
        let request = json!({ "model": "support-bot" });
        let session = format!("session-{session}");
        let ask = |path| world.request(path, &request).header("x-session-id", &session).send();
        let told = Answer::read(ask(EXPLAIN).await.unwrap()).await.json();
        assert_eq!(told["session"], "x-session-id");
        let answer = Answer::read(ask("/api/chat").await.unwrap()).await;
        assert_eq!(told["resolved"]["node"], answer.header("x-drover-node"));
        let node = answer.header("x-drover-node");
        assert!(state(&told, node).1.contains("session's own node"), "{told}");
    }
}

#[tokio::test]
async fn parameters_have_their_sources_and_are_those_that_the_node_gets() {
    let node = FakeNode::start("n1").await;
    let mut target = on(version("v1.0.0", &[&node]), "n1", |node| node.keep_alive = Some("10m".into()));
    target.parameters = [("temperature".to_owned(), json!(0.2)), ("num_ctx".to_owned(), json!(64))].into();
    let world = World::start(table(Some(deployment(target, None)), &[])).await;
    let text = "four".repeat(100);
    let chat = json!([{ "role": "user", "content": text }]);
    let requests = [
        ("/api/chat", json!({ "model": "support-bot", "messages": chat, "options": { "top_k": 7 } })),
        ("/api/generate", json!({ "model": "support-bot", "prompt": text, "options": { "top_k": 7 } })),
        ("/v1/chat/completions", json!({ "model": "support-bot", "messages": chat, "top_k": 7 })),
        ("/v1/messages", json!({ "model": "support-bot", "messages": chat, "top_k": 7, "max_tokens": 9 })),
    ];
    for (index, (path, mut request)) in requests.into_iter().enumerate() {
        request["stream"] = false.into();
        assert_eq!(world.post(path, &request).await.status, 200);
        request["path"] = path.into();
        let told = explain(&world, &request).await;
        assert_eq!(told["path"], path);
        let sources = ["top_k", "temperature", "num_ctx"].map(|name| told["parameters"][name]["source"].clone());
        assert_eq!(sources, ["request", "version", "version"], "{told}");
        assert_eq!(told["keepAlive"], json!({ "value": "10m", "source": "node" }));
        let sent = &node.requests()[index].1["options"];
        let values =
            told["parameters"].as_object().unwrap().iter().map(|(name, set)| (name.clone(), set["value"].clone()));
        assert_eq!(&Value::Object(values.collect()), sent, "{path}");
        let context = &told["context"];
        assert_eq!(
            (&context["numCtx"]["value"], &context["estimatedPromptTokens"]),
            (&json!(64), &json!(100)),
            "{context}"
        );
        assert_eq!((&context["isPromptLonger"], &context["whenLonger"]), (&json!(true), &json!("cut")));
    }
}

#[tokio::test]
async fn every_node_has_its_state_and_the_reason() {
    let nodes = FakeNode::start_many(6).await;
    let all: Vec<_> = nodes.iter().collect();
    let mut target = plain("m:1", &all[..5]);
    target = on(target, "n1", |node| node.max_concurrent_requests = 1);
    target = on(target, "n2", |node| node.weight = 0);
    target = on(target, "n3", |node| node.max_context_length = Some(100));
    target.holders[3].loaded = true;
    let mut world_table = table(None, &[target, plain("other:1", &all[5..])]);
    let namespace = world_table.namespaces.get_mut("default").unwrap();
    namespace.away.insert("n7".into(), "it is in maintenance".into());
    let world = World::start(world_table).await;
    let request = json!({ "model": "m:1", "options": { "num_ctx": 200 }, "messages": [] });
    let told = explain(&world, &request).await;
    let states = ["n1", "n2", "n3", "n4", "n5", "n6", "n7"].map(|node| state(&told, node).0);
    assert_eq!(states, ["Eligible", "Unfit", "Unfit", "Chosen", "Eligible", "Lacking", "Away"], "{told}");
    assert!(state(&told, "n2").1.contains("weight is 0"));
    assert!(state(&told, "n3").1.contains("100 tokens"));
    assert!(state(&told, "n4").1.contains("has the model in memory"));
    assert_eq!(state(&told, "n6").1, "it does not hold m:1");
    assert_eq!(state(&told, "n7").1, "it is in maintenance");

    nodes[3].next(Act::CutAfter(0));
    assert_eq!(world.post("/api/chat", &request).await.status, 200);
    let told = explain(&world, &request).await;
    assert_eq!(state(&told, "n4").0, "Aside", "{told}");
    assert!(state(&told, "n4").1.contains("last answers failed"), "{told}");
}

fn one_place(node: &FakeNode) -> RoutingTable {
    let target = on(plain("m:1", &[node]), "n1", |node| node.max_concurrent_requests = 1);
    table(None, &[target])
}

#[tokio::test]
async fn a_request_that_would_wait_is_told_so_and_one_that_would_be_refused_as_crowded_is_refused() {
    let node = FakeNode::start("n1").await;
    let settings = Settings { queue_length: 1, queue_limit: Duration::from_secs(30), ..Settings::default() };
    let world = World::start_with(one_place(&node), settings).await;
    node.always(Act::Hold);
    let request = json!({ "model": "m:1", "messages": [] });
    let first = world.post("/api/chat", &request);
    let meanwhile = async {
        eventually(1, || node.in_flight()).await;
        let told = explain(&world, &request).await;
        assert_eq!((&told["waits"], &told["resolved"]["node"]), (&json!(true), &Value::Null), "{told}");
        assert_eq!(state(&told, "n1"), ("Full", "all 1 places are taken"));
        let second = async {
            let crowded = parts::eventually("a request waits", Duration::from_secs(10), async || {
                let told = world.post(EXPLAIN, &request).await;
                if told.status == 503 { Ok(told) } else { Err(told.text) }
            });
            let told = crowded.await;
            let real = world.post("/api/chat", &request).await;
            assert_eq!((told.status, &told.text, told.header("retry-after")), (real.status, &real.text, "5"));
            node.let_go();
        };
        let (waited, ()) = tokio::join!(world.post("/api/chat", &request), second);
        assert_eq!(waited.status, 200);
    };
    let (first, ()) = tokio::join!(first, meanwhile);
    assert_eq!(first.status, 200);
}

#[tokio::test]
async fn errors_are_those_of_the_request() {
    let node = FakeNode::start("n1").await;
    let narrow = on(plain("narrow:1", &[&node]), "n1", |node| node.max_context_length = Some(100));
    let world = World::start(table(None, &[narrow, plain("nobody:1", &[])])).await;
    let cases = [
        json!({ "model": "missing" }),
        json!({ "messages": [] }),
        json!({ "model": "narrow:1", "options": { "num_ctx": 101 } }),
        json!({ "model": "narrow:1", "options": { "temperature": 3 } }),
        json!({ "model": "narrow:1", "keep_alive": "soon" }),
        json!({ "model": "nobody:1", "messages": [] }),
        json!([]),
    ];
    for path in ["/api/chat", "/v1/chat/completions", "/v1/messages"] {
        let checks = cases.iter().map(async |case| {
            let mut asked = case.clone();
            if let Some(fields) = asked.as_object_mut().filter(|_| path != "/api/chat") {
                fields.insert("path".into(), path.into());
            }
            let (told, real) = (world.post(EXPLAIN, &asked).await, world.post(path, case).await);
            assert!(told.status >= 400, "{case}: {}", told.text);
            if case.is_object() {
                assert_eq!((told.status, told.text), (real.status, real.text), "{path} {case}");
            } else {
                assert_eq!(told.status, real.status, "{path} {case}");
            }
        });
        join_all(checks).await;
    }
    assert_eq!(node.count(), 0);
    let unknown = world.post(EXPLAIN, &json!({ "model": "narrow:1", "path": "/api/tags" })).await;
    assert_eq!(unknown.status, 400);
    assert!(unknown.text.contains("no model answers") && unknown.text.contains("/v1/messages"), "{}", unknown.text);
}

#[tokio::test]
async fn the_command_line_explains_for_people_and_for_programs() {
    let (nodes, world) = two_versions(20).await;
    let drover = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drover"));
        command.args(["route", "explain"]).args(arguments).env("DROVER_GATEWAY", &world.url);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let told = drover(&["support-bot", "--message", "Hi", "--option", "top_k=3", "--session", "anna"]).await.unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    for part in ["stable v1.0.0 80 %", "n1", "n3", "Chosen", "top_k", "request", "2048", "known by x-session-id"] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    let told = drover(&["support-bot", "-o", "json"]).await.unwrap();
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(
        told,
        explain(
            &world,
            &json!({ "model": "support-bot", "options": {},
        "messages": [{ "role": "user", "content": "" }] })
        )
        .await
    );
    let told = drover(&["missing"]).await.unwrap();
    assert!(!told.status.success());
    assert!(String::from_utf8(told.stderr).unwrap().contains("not found"));
    assert_eq!(nodes.iter().map(FakeNode::count).sum::<usize>(), 0);
}
