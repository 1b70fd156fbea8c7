//! What a node is told besides the caller's own words.

use std::collections::BTreeMap;

use drover::routing_table::{Node, Target};
use serde_json::{Value, json};

use crate::support::{FakeNode, World, deployment, plain, table, version};

/// What the node gets for `asked` when `shape` has been at the version and its node.
async fn sent(path: &str, asked: Value, shape: impl FnOnce(&mut Target, &mut Node)) -> Value {
    let node = FakeNode::start("n1").await;
    let mut target = version("v1.0.0", &[&node]);
    let mut entry = (*target.holders[0].node).clone();
    shape(&mut target, &mut entry);
    target.holders[0].node = entry.into();
    let world = World::start(table(Some(deployment(target, None)), &[])).await;
    let mut asked = asked;
    asked["model"] = "support-bot".into();
    let answer = world.post(path, &asked).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    node.only_body()
}

fn parameters(pairs: Value) -> BTreeMap<String, Value> {
    serde_json::from_value(pairs).unwrap()
}

#[tokio::test]
async fn a_parameter_is_the_requests_else_the_versions_else_the_nodes() {
    let body = sent(
        "/api/chat",
        json!({ "options": { "temperature": 0.9, "stop": ["a"], "top_k": null, "seed": 18_446_744_073_709_551_615_u64 } }),
        |target, node| {
            target.parameters = parameters(json!({ "temperature": 0.1, "top_k": 5, "top_p": 0.5 }));
            node.context_length = Some(4096);
        },
    );
    let options = body.await["options"].clone();
    let wanted = json!({
        "temperature": 0.9, "stop": ["a"], "top_k": 5, "top_p": 0.5, "num_ctx": 4096,
        "seed": 18_446_744_073_709_551_615_u64,
    });
    assert_eq!(options, wanted);
}

#[tokio::test]
async fn every_version_is_called_with_one_context_window_unless_a_request_needs_more() {
    let rows = [
        // request, version, node -> sent
        (None, None, None, None),
        (None, None, Some(4096), Some(4096)),
        (None, Some(8192), Some(4096), Some(8192)),
        (None, Some(2048), Some(4096), Some(2048)),
        (Some(1000), None, None, Some(1000)),
        (Some(1000), None, Some(4096), Some(4096)),
        (Some(1000), Some(8192), None, Some(8192)),
        (Some(9000), Some(8192), Some(4096), Some(9000)),
    ];
    for (request, version, default, wanted) in rows {
        let asked = request.map_or(json!({}), |window: u64| json!({ "options": { "num_ctx": window } }));
        let body = sent("/api/generate", asked, |target, node| {
            target.parameters = version.map_or_else(BTreeMap::new, |w: u64| parameters(json!({ "num_ctx": w })));
            node.context_length = default;
        });
        let sent = body.await["options"]["num_ctx"].as_u64();
        assert_eq!(sent, wanted, "{request:?} {version:?} {default:?}");
    }
}

#[tokio::test]
async fn nodes_that_allow_less_context_are_passed_over_and_more_than_any_allows_is_refused() {
    let nodes = FakeNode::start_many(2).await;
    let mut target = plain("alpha:latest", &[&nodes[0], &nodes[1]]);
    for (holder, limit) in target.holders.iter_mut().zip([4096, 8192]) {
        holder.node = Node { max_context_length: Some(limit), ..(*holder.node).clone() }.into();
    }
    let world = World::start(table(None, &[target])).await;
    let ask = async |window: u64| {
        world.post("/api/generate", &json!({ "model": "alpha", "options": { "num_ctx": window } })).await
    };
    for _ in 0..4 {
        assert_eq!(ask(5000).await.header("x-drover-node"), "n2");
    }
    let answer = ask(8193).await;
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    assert_eq!((answer.status, answer.header("x-drover-attempts")), (400, "0"), "{error}");
    assert!(error.contains("options.num_ctx") && error.contains("8193") && error.contains("8192"), "{error}");
    assert_eq!(nodes[0].count(), 0);
}

#[tokio::test]
async fn a_version_whose_context_no_node_allows_says_so() {
    let node = FakeNode::start("n1").await;
    let mut target = version("v1.0.0", &[&node]);
    target.parameters = parameters(json!({ "num_ctx": 8192 }));
    target.holders[0].node = Node { max_context_length: Some(4096), ..(*target.holders[0].node).clone() }.into();
    let world = World::start(table(Some(deployment(target, None)), &[])).await;
    let answer = world.post("/api/chat", &json!({ "model": "support-bot" })).await;
    assert_eq!(answer.status, 503);
    assert!(answer.text.contains("num_ctx") && answer.text.contains("4096"), "{}", answer.text);
}

#[tokio::test]
async fn a_request_may_lengthen_the_nodes_keep_alive_but_not_shorten_it() {
    let rows = [
        // request, node -> sent
        (Value::Null, None, Value::Null),
        (Value::Null, Some("10m"), json!("10m")),
        (json!("5m"), Some("10m"), json!("10m")),
        (json!(60), Some("10m"), json!("10m")),
        (json!("1h30m"), Some("10m"), json!("1h30m")),
        (json!(3600), Some("10m"), json!(3600)),
        (json!(-1), Some("10m"), json!(-1)),
        (json!("-1s"), Some("10m"), json!("-1s")),
        (json!("1.5h"), None, json!("1.5h")),
        (json!(0), Some("10m"), json!("10m")),
        (json!("0"), None, Value::Null),
        (json!(0), None, Value::Null),
        (json!("0s"), None, Value::Null),
    ];
    for (request, own, wanted) in rows {
        let body = sent("/api/chat", json!({ "keep_alive": request }), |_, node| {
            node.keep_alive = own.map(Into::into);
        });
        assert_eq!(body.await["keep_alive"], wanted, "{request} {own:?}");
    }
}

#[tokio::test]
async fn a_versions_system_prompt_is_for_requests_that_bring_none() {
    let prompt = |target: &mut Target, _: &mut Node| target.system_prompt = Some("Be \"brief\".".into());
    let user = json!({ "role": "user", "content": "hi", "images": ["aGk="] });
    let own = json!({ "role": "system", "content": "own" });
    let drovers = json!({ "role": "system", "content": "Be \"brief\"." });
    for path in ["/api/chat", "/v1/chat/completions"] {
        let user = if path == "/api/chat" { user.clone() } else { json!({ "role": "user", "content": "hi" }) };
        let body = sent(path, json!({ "messages": [user] }), prompt).await;
        assert_eq!(body["messages"], json!([drovers, user]), "{path}");
        let body = sent(path, json!({ "messages": [own, user] }), prompt).await;
        assert_eq!(body["messages"], json!([own, user]), "{path}");
    }
    let body = sent("/api/chat", json!({ "messages": [] }), prompt).await;
    assert_eq!(body["messages"], json!([]), "no messages: load the model, say nothing");
    assert_eq!(sent("/api/chat", json!({}), prompt).await.get("messages"), None);

    let generate = async |asked: Value| sent("/api/generate", asked, prompt).await["system"].clone();
    assert_eq!(generate(json!({ "prompt": "hi" })).await, "Be \"brief\".");
    assert_eq!(generate(json!({ "prompt": "hi", "system": "" })).await, "Be \"brief\".");
    assert_eq!(generate(json!({ "prompt": "hi", "system": "own" })).await, "own");
    assert_eq!(generate(json!({ "prompt": "hi", "raw": true })).await, Value::Null);
}

#[tokio::test]
async fn everything_else_reaches_the_node_as_it_came() {
    let asked = json!({
        "prompt": "hi", "suffix": "ho", "images": ["aGk="], "format": { "type": "object" }, "think": "high",
        "context": [1, 2, 3], "something_new": { "nested": [1.50] },
    });
    let body = sent("/api/generate", asked.clone(), |_, _| {}).await;
    for (name, value) in asked.as_object().unwrap() {
        assert_eq!(&body[name], value, "{name}");
    }
    assert_eq!(body["stream"], true);
    assert_eq!(body.get("options"), None);
}
