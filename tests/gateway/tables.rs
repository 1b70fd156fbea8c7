//! A request and the table it was resolved with.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::{StreamExt, stream};
use serde_json::json;

use crate::support::{Act, FakeNode, World, canary, deployment, eventually, table, version};

#[tokio::test]
async fn a_request_keeps_its_table_to_the_end() {
    let nodes = FakeNode::start_many(3).await;
    let mut old = version("v1.0.0", &[&nodes[0], &nodes[1]]);
    old.holders[0].loaded = true;
    let world = World::start(table(Some(deployment(old, None)), &[])).await;
    nodes[0].next(Act::HoldThenCut);
    let asked = json!({ "model": "support-bot" });
    let swap = async {
        eventually(1, || nodes[0].in_flight()).await;
        let new = deployment(version("v2.0.0", &[&nodes[2]]), None);
        world.table.store(table(Some(new), &[]).into());
        let newer = world.post("/api/chat", &asked).await;
        nodes[0].let_go();
        newer
    };
    let (older, newer) = tokio::join!(world.post("/api/chat", &asked), swap);
    assert_eq!((newer.header("x-drover-version"), newer.header("x-drover-node")), ("v2.0.0", "n3"));
    let facts = ["version", "node", "attempts"].map(|name| older.header(&format!("x-drover-{name}")).to_owned());
    assert_eq!(facts, ["v1.0.0", "n2", "2"], "the attempt after the swap is still the old table's");
}

#[tokio::test]
async fn tables_that_change_under_load_lose_no_request() {
    let nodes = FakeNode::start_many(3).await;
    let [a, b, c] = [&nodes[0], &nodes[1], &nodes[2]];
    let tables = [
        deployment(version("v1.0.0", &[a, b]), canary(20, version("v1.1.0", &[c]))),
        deployment(version("v1.0.0", &[a]), canary(50, version("v1.1.0", &[b, c]))),
        deployment(version("v1.1.0", &[a, b, c]), None),
        deployment(version("v1.0.0", &[c]), None),
    ];
    let tables = tables.map(|deployment| table(Some(deployment), &[]));
    let world = World::start(tables[0].clone()).await;
    let done = AtomicBool::new(false);
    let swaps = async {
        let mut count = 0;
        while !done.load(Ordering::Relaxed) {
            count += 1;
            world.table.store(tables[count % tables.len()].clone().into());
            tokio::task::yield_now().await;
        }
        count
    };
    let load = async {
        let answers = stream::iter(0..400).map(|n| {
            let world = &world;
            async move { world.post("/api/chat", &json!({ "model": "support-bot", "stream": n % 2 == 0 })).await }
        });
        let answers: Vec<_> = answers.buffer_unordered(16).collect().await;
        done.store(true, Ordering::Relaxed);
        answers
    };
    let (swaps, answers) = tokio::join!(swaps, load);
    assert!(swaps > 10, "{swaps}");
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.content().starts_with("Hello from n")));
    eventually(0, || nodes.iter().map(FakeNode::in_flight).sum::<usize>()).await;
}

#[tokio::test]
async fn a_stream_under_way_is_not_disturbed_by_tables_without_its_node() {
    let nodes = FakeNode::start_many(2).await;
    let of = |node| table(Some(deployment(version("v1.0.0", &[node]), None)), &[]);
    let world = World::start(of(&nodes[0])).await;
    nodes[0].next(Act::HoldAfter(1));
    let asked = world.request("/api/chat", &json!({ "model": "support-bot" })).send().await.unwrap();
    let mut body = asked.bytes_stream();
    let first = body.next().await.unwrap().unwrap();
    for node in [&nodes[1], &nodes[0], &nodes[1]] {
        world.table.store(of(node).into());
        assert_eq!(
            world.post("/api/chat", &json!({ "model": "support-bot" })).await.header("x-drover-node"),
            node.name
        );
    }
    world.table.store(table(None, &[]).into());
    assert_eq!(world.post("/api/chat", &json!({ "model": "support-bot" })).await.status, 404);
    nodes[0].let_go();
    let rest: Vec<_> = body.map(|piece| piece.unwrap().to_vec()).collect().await;
    let lines = [first.to_vec(), rest.concat()].concat();
    assert_eq!(String::from_utf8(lines).unwrap().lines().count(), 4, "all of it came");
}

#[tokio::test]
async fn on_shutdown_no_connection_is_taken_and_what_is_under_way_is_answered() {
    let node = FakeNode::start("n1").await;
    let world = World::start(table(Some(deployment(version("v1.0.0", &[&node]), None)), &[])).await;
    node.next(Act::HoldAfter(1));
    let asked = world.request("/api/chat", &json!({ "model": "support-bot" }));
    let request = tokio::spawn(async move { asked.send().await.unwrap().text().await.unwrap() });
    eventually(1, || node.in_flight()).await;
    world.shutdown.cancel();
    let address = world.url.trim_start_matches("http://").to_owned();
    while tokio::net::TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!world.server.is_finished());
    node.let_go();
    assert_eq!(request.await.unwrap().lines().count(), 4);
    world.server.await.unwrap().unwrap();
}
