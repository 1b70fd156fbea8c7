//! What happens when nodes fail.

use std::time::Duration;

use drover::{gateway::Settings, routing_table::RoutingTable};
use serde_json::{Value, json};

use crate::support::{Act, FakeNode, World, alias, deployment, table, version};

fn chat(stream: bool) -> Value {
    json!({ "model": "support-bot", "stream": stream, "messages": [{ "role": "user", "content": "hi" }] })
}

/// One version on two nodes; the first one is preferred.
async fn two_nodes() -> (FakeNode, FakeNode, World) {
    two_nodes_with(Settings::default()).await
}

async fn two_nodes_with(settings: Settings) -> (FakeNode, FakeNode, World) {
    let (first, second) = (FakeNode::start("n1").await, FakeNode::start("n2").await);
    let world = World::start_with(first_preferred(&first, &second), settings).await;
    (first, second, world)
}

fn first_preferred(first: &FakeNode, second: &FakeNode) -> RoutingTable {
    let mut target = version("v1.0.0", &[first, second]);
    target.holders[0].loaded = true;
    table(Some(deployment(target, None)), &[])
}

#[tokio::test]
async fn before_the_first_byte_another_node_is_tried() {
    let failures = [
        Act::Fail(500, "out of memory".into()),
        Act::Fail(404, "model not found".into()),
        Act::Fail(408, "slow".into()),
        Act::Fail(429, "busy".into()),
        Act::Fail(503, "busy".into()),
        Act::Fail(401, "log in".into()),
        Act::Fail(302, "elsewhere".into()),
        Act::CutAfter(0),
        Act::StopAfter(0),
        Act::ErrAfter(0, "llama runner process has terminated".into()),
        Act::Raw("<html>".into()),
        Act::Raw("{\"model\":\"x\"".into()),
        Act::Raw(String::new()),
    ];
    let (_, _, world) = two_nodes().await;
    let mut rounds = 0;
    for stream in [true, false] {
        for path in ["/api/chat", "/api/generate", "/v1/chat/completions"] {
            for failure in &failures {
                rounds += 1;
                let (bad, good) = (format!("spoilt{rounds}"), format!("good{rounds}"));
                let (first, second) = (FakeNode::start(&bad).await, FakeNode::start(&good).await);
                world.table.store(first_preferred(&first, &second).into());
                first.next(failure.clone());
                let answer = world.post(path, &chat(stream)).await;
                assert_eq!(answer.status, 200, "{path} {failure:?} {stream}: {}", answer.text);
                assert!(answer.text.contains(&good) && !answer.text.contains(&bad), "{failure:?}: {}", answer.text);
                assert_eq!((answer.header("x-drover-node"), answer.header("x-drover-attempts")), (&*good, "2"));
                assert_eq!((first.count(), second.count()), (1, 1));
                assert_eq!(world.counts("v1.0.0").await, (2 * rounds, rounds), "{path} {failure:?} {stream}");
            }
        }
    }
}

#[tokio::test]
async fn a_node_that_is_away_is_passed_over() {
    let (first, second) = (FakeNode::away("n1").await, FakeNode::start("n2").await);
    let world = World::start(first_preferred(&first, &second)).await;
    let answer = world.post("/api/chat", &chat(true)).await;
    assert_eq!((answer.status, answer.header("x-drover-attempts")), (200, "2"));
    let answer = world.post("/api/chat", &chat(true)).await;
    assert_eq!((answer.status, answer.header("x-drover-attempts")), (200, "1"), "the others go first for a while");
    assert_eq!(second.count(), 2);
}

#[tokio::test]
async fn an_answer_that_breaks_half_way_is_asked_for_again_only_if_nothing_was_sent() {
    let (first, second, world) = two_nodes().await;
    first.next(Act::CutAfter(2));
    let whole = world.post("/api/chat", &chat(false)).await;
    assert_eq!((whole.content().as_str(), whole.header("x-drover-attempts")), ("Hello from n2", "2"));
    assert_eq!((first.count(), second.count()), (1, 1));
}

#[tokio::test]
async fn after_the_first_byte_nothing_is_retried_and_the_stream_ends_with_an_error() {
    for (act, words) in [
        (Act::CutAfter(1), "broke"),
        (Act::StopAfter(1), "ended its answer early"),
        (Act::ErrAfter(1, format!("{} crashed", alias("v1.0.0"))), "llama3.2:3b-v1.0.0 crashed"),
    ] {
        let (first, second, world) = two_nodes().await;
        first.always(act.clone());
        let answer = world.post("/api/chat", &chat(true)).await;
        let lines = answer.lines();
        assert_eq!((answer.status, lines.len()), (200, 2), "{act:?}");
        assert_eq!(lines[0]["message"]["content"], "Hello");
        assert!(lines[1]["error"].as_str().unwrap().contains(words), "{}", lines[1]);

        // The same node again, though it is suspect now: the other one must not see a thing.
        world.table.store(table(Some(deployment(version("v1.0.0", &[&first]), None)), &[]).into());
        let events = world.post("/v1/chat/completions", &chat(true)).await.events();
        assert_eq!(events.len(), 2, "{events:?}");
        let last: Value = serde_json::from_str(&events[1]).unwrap();
        assert!(last["error"]["message"].as_str().unwrap().contains(words), "{last}");
        assert_eq!(last["error"]["type"], "server_error");
        assert_eq!((first.count(), second.count()), (2, 0));
        assert_eq!(world.counts("v1.0.0").await, (2, 2));
    }
}

#[tokio::test]
async fn no_node_is_tried_twice_and_the_error_lists_every_attempt() {
    let (first, second, world) = two_nodes().await;
    first.always(Act::Fail(500, format!("{} does not fit", alias("v1.0.0"))));
    second.always(Act::CutAfter(0));
    for stream in [true, false] {
        let answer = world.post("/api/chat", &chat(stream)).await;
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert_eq!(answer.status, 502, "{error}");
        assert!(error.contains("n1: HTTP 500: llama3.2:3b-v1.0.0 does not fit"), "{error}");
        assert!(error.contains("n2: the connection broke"), "{error}");
        assert!(!error.contains("drover-0a1b2c3d"), "{error}");
        assert_eq!(answer.header("x-drover-attempts"), "2");
    }
    assert_eq!((first.count(), second.count()), (2, 2));
    assert_eq!(world.counts("v1.0.0").await, (4, 4));
}

#[tokio::test]
async fn the_status_says_what_kind_of_failure_it_was() {
    let quick = || Settings { head_limit: Duration::from_millis(100), ..Settings::default() };
    for (act, status, code) in [
        (Act::Fail(500, "no".into()), 502, "upstream_failed"),
        (Act::Fail(503, "busy".into()), 503, "overloaded"),
        (Act::Hold, 504, "upstream_timeout"),
    ] {
        let (first, second, world) = two_nodes_with(quick()).await;
        first.always(act.clone());
        second.always(act.clone());
        let answer = world.post("/v1/chat/completions", &chat(false)).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status, error["code"].as_str().unwrap()), (status, code), "{act:?}: {error}");
    }
}

#[tokio::test]
async fn a_silent_node_is_left_before_the_first_byte_and_ends_the_stream_after_it() {
    let quick = || Settings { silence_limit: Duration::from_millis(100), ..Settings::default() };
    let (first, _second, world) = two_nodes_with(quick()).await;
    first.next(Act::HoldAfter(0));
    let answer = world.post("/api/chat", &chat(true)).await;
    assert_eq!((answer.content().as_str(), answer.header("x-drover-attempts")), ("Hello from n2", "2"));
    let (first, _second, world) = two_nodes_with(quick()).await;
    first.next(Act::HoldAfter(1));
    let lines = world.post("/api/chat", &chat(true)).await.lines();
    assert!(lines[1]["error"].as_str().unwrap().contains("no answer within 100ms"), "{lines:?}");
}

#[tokio::test]
async fn a_callers_own_mistake_is_passed_on_and_counts_for_nobody() {
    for (status, stream) in [(400, true), (400, false), (413, false), (422, true)] {
        let (first, second, world) = two_nodes().await;
        first.always(Act::Fail(status, format!("{} does not support tools", alias("v1.0.0"))));
        let answer = world.post("/api/chat", &chat(stream)).await;
        assert_eq!((answer.status, answer.header("x-drover-attempts")), (status, "1"));
        assert_eq!(answer.json(), json!({ "error": "llama3.2:3b-v1.0.0 does not support tools" }));
        let answer = world.post("/v1/chat/completions", &chat(stream)).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
        assert_eq!(answer.json()["error"]["message"], "llama3.2:3b-v1.0.0 does not support tools");
        assert_eq!((first.count(), second.count()), (2, 0));
        assert_eq!(world.counts("v1.0.0").await, (0, 0));
    }
}

#[tokio::test]
async fn a_mistake_that_ollama_calls_its_own_fault_is_asked_of_one_node_only() {
    let (first, second, world) = two_nodes().await;
    for words in [
        "invalid format: \"yaml\"; expected \"json\" or a valid JSON Schema object",
        "invalid JSON schema in format",
        "option \"shape\" must be of type integer",
        "template: :1: unclosed action",
    ] {
        first.next(Act::Fail(500, words.into()));
        let answer = world.post("/api/chat", &chat(true)).await;
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!(words)));
    }
    assert_eq!((first.count(), second.count()), (4, 0));
    assert_eq!(world.counts("v1.0.0").await, (0, 0));
}
