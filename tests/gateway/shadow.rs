//! Copies of requests for a version that has no requests of its own yet.

use std::time::Duration;

use drover::{
    gateway::{Settings, recorder::Recorder},
    records::WhenDown,
    routing_table::{Canary, Deployment, Shadow, Target},
};
use serde_json::json;

use crate::{
    parts::{Scratch, eventually as settles},
    records::Store,
    support::{
        Act, Answer, FakeNode, World, deployment, eventually,
        provider::{Far, Reply, offering, provider},
        table, version,
    },
};

const SOON: Duration = Duration::from_secs(10);

/// `canary` gets copies of so many percent of what `stable` answers.
fn shadowing(stable: Target, canary: Target, share: u8) -> Deployment {
    let shadow = Some(Shadow { share, budget: 0.5 });
    deployment(stable, Some(Canary { weight: 0, shadow, target: canary }))
}

/// v1.0.0 on the first node, and v1.1.0, which gets copies, on the second one.
async fn apart(share: u8) -> ([FakeNode; 2], Deployment) {
    let nodes = [FakeNode::start("n1").await, FakeNode::start("n2").await];
    let rollout = shadowing(version("v1.0.0", &[&nodes[0]]), version("v1.1.0", &[&nodes[1]]), share);
    (nodes, rollout)
}

/// Both on one node, which takes one request at a time.
async fn together() -> (FakeNode, World) {
    let node = FakeNode::start("n1").await;
    let cramped = |name| {
        let mut target = version(name, &[&node]);
        let mut entry = (*target.holders[0].node).clone();
        entry.max_concurrent_requests = 1;
        target.holders[0].node = entry.into();
        target
    };
    let world = World::start(table(Some(shadowing(cramped("v1.0.0"), cramped("v1.1.0"), 100)), &[])).await;
    (node, world)
}

async fn ask(world: &World, session: Option<&str>) -> Answer {
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let request = world.request("/api/chat", &json!({ "model": "support-bot", "messages": messages, "stream": false }));
    let request = session.into_iter().fold(request, |request, session| request.header("x-session-id", session));
    Answer::read(request.send().await.unwrap()).await
}

fn copies(world: &World, outcome: &str) -> u64 {
    world.metric(&format!("drover_gateway_shadow_requests_total{{outcome=\"{outcome}\"}}")) as u64
}

/// Waits until the canary has so many attempts and failures.
async fn counted(world: &World, attempts: u64, failures: u64) {
    settles("the copies are counted", SOON, async || {
        let counts = world.counts("v1.1.0").await;
        if counts == (attempts, failures) { Ok(()) } else { Err(format!("{counts:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_share_of_requests_is_copied_and_nobody_sees_the_answers() {
    let (dir, (nodes, rollout)) = (Scratch::new(), apart(50).await);
    let store = Store::in_folder(dir.path());
    let recorder = Recorder::storing(store.records.clone(), WhenDown::Refuse, true);
    let world = World::start_recording(table(Some(rollout), &[]), Settings::default(), recorder).await;
    for asked in 1..=10 {
        let answer = ask(&world, None).await;
        assert_eq!((answer.status, answer.header("x-drover-version")), (200, "v1.0.0"));
        assert_eq!(answer.header("x-drover-reason"), "deployment support-bot: stable v1.0.0");
        counted(&world, asked / 2, 0).await;
    }
    let streamed = json!({ "model": "support-bot", "messages": [{ "role": "user", "content": "hi" }], "stream": true });
    let embedded = json!({ "model": "support-bot", "input": "hi" });
    for (path, body, copies) in [("/v1/chat/completions", &streamed, 6), ("/api/embed", &embedded, 7)] {
        for _ in 0..2 {
            assert_eq!(world.post(path, body).await.status, 200);
        }
        counted(&world, copies, 0).await;
        nodes.iter().for_each(|node| node.always(Act::Raw(r#"{"embeddings": [[1]], "prompt_eval_count": 1}"#.into())));
    }
    eventually(7, || copies(&world, "Answered")).await;
    assert_eq!((world.counts("v1.0.0").await, nodes[0].count()), ((14, 0), 14));
    let paths: Vec<String> = nodes[1].requests().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths[4..], ["/api/chat", "/api/chat", "/api/embed"]);
    let runs = store.records.list(Default::default(), 100).await.unwrap().items;
    assert_eq!(runs.len(), 14, "a copy is no run");
    assert!(
        runs.iter().all(|run| run.resolved.as_ref().is_some_and(|found| found.version.as_deref() == Some("v1.0.0")))
    );
    let spent = world.get("/drover/v1/stats?deployment=default/support-bot").await.json();
    assert_eq!(
        spent["deployments"][0]["versions"]["v1.1.0"]["latency"].as_object().map(|times| !times.is_empty()),
        Some(true)
    );
}

#[tokio::test]
async fn explaining_copies_nothing_and_says_nothing_of_copies() {
    let (nodes, rollout) = apart(100).await;
    let world = World::start(table(Some(rollout), &[])).await;
    let told = world.post("/drover/v1/explain", &json!({ "model": "support-bot" })).await;
    assert_eq!(told.status, 200, "{}", told.text);
    ask(&world, None).await;
    counted(&world, 1, 0).await;
    assert_eq!(nodes[1].count(), 1);
}

#[tokio::test]
async fn the_sessions_whose_requests_are_copied_are_the_first_that_the_canary_gets() {
    let (_nodes, rollout) = apart(30).await;
    let sticky = Deployment { sticky_header: Some("x-session-id".into()), ..rollout };
    let world = World::start(table(Some(sticky.clone()), &[])).await;
    let names: Vec<String> = (0..40).map(|name| format!("session-{name}")).collect();
    for name in &names {
        ask(&world, Some(name)).await;
        ask(&world, Some(name)).await;
    }
    let mut step = sticky;
    let canary = step.canary.as_mut().unwrap();
    (canary.weight, canary.shadow, step.revision) = (30, None, 8);
    let copied = async || world.stats().await.deployments[0].versions.get("v1.1.0").map_or(0, |counts| counts.attempts);
    settles("no copy is under way", SOON, async || {
        let done = copies(&world, "Answered") + copies(&world, "Dropped");
        let stats = world.stats().await.deployments[0].versions["v1.1.0"].clone();
        if done > 0 && done == stats.attempts + stats.repeats { Ok(()) } else { Err(format!("{done} {stats:?}")) }
    })
    .await;
    let sessions = copied().await;
    world.table.store(table(Some(step), &[]).into());
    let mut on_canary = 0;
    for name in &names {
        on_canary += u64::from(ask(&world, Some(name)).await.header("x-drover-version") == "v1.1.0");
    }
    assert!(on_canary > 0 && sessions == on_canary, "{sessions} sessions were copied, {on_canary} are the canary's");
}

#[tokio::test]
async fn a_copy_never_waits_for_a_place() {
    let (node, world) = together().await;
    node.next(Act::HoldAfter(1));
    let streamed = world.request("/api/chat", &json!({ "model": "support-bot" }));
    let answer = streamed.send().await.unwrap();
    eventually(1, || copies(&world, "Dropped")).await;
    node.let_go();
    assert_eq!(Answer::read(answer).await.status, 200);
    assert_eq!(node.count(), 1);
}

#[tokio::test]
async fn a_copy_gives_its_place_to_a_caller_who_waits_for_it() {
    let (node, world) = together().await;
    [Act::Answer, Act::Hold].into_iter().for_each(|act| node.next(act));
    ask(&world, None).await;
    eventually((2, 1), || (node.count(), node.in_flight())).await;
    let answer = tokio::time::timeout(SOON, ask(&world, None)).await.expect("no copy is waited for");
    assert_eq!((answer.status, answer.header("x-drover-version")), (200, "v1.0.0"));
    eventually(1, || copies(&world, "GaveWay")).await;
    counted(&world, 1, 0).await;
}

#[tokio::test]
async fn copies_that_fail_count_against_the_canary_alone_and_end() {
    let (nodes, rollout) = apart(100).await;
    let plain = crate::support::plain("plain:1", &[&nodes[1]]);
    let world = World::start(table(Some(rollout), &[plain])).await;
    nodes[1].always(Act::Fail(500, "bad weights".into()));
    for asked in 1..=10 {
        let answer = ask(&world, None).await;
        assert_eq!((answer.status, answer.header("x-drover-attempts")), (200, "1"));
        counted(&world, asked, asked).await;
    }
    assert!(world.stats().await.deployments[0].braked);
    for _ in 0..5 {
        assert_eq!(ask(&world, None).await.status, 200);
    }
    assert_eq!((nodes[1].count(), copies(&world, "Failed")), (10, 10), "no more was tried");
    assert_eq!(
        world.metric("drover_gateway_node_aside{node=\"default/n2\"}") as u64,
        0,
        "a copy says nothing of a node"
    );
}

#[tokio::test]
async fn a_gateway_that_ends_waits_for_no_copy() {
    let (nodes, rollout) = apart(100).await;
    let world = World::start(table(Some(rollout), &[])).await;
    nodes[1].always(Act::Hold);
    ask(&world, None).await;
    eventually(1, || nodes[1].in_flight()).await;
    world.shutdown.cancel();
    let World { server, http, .. } = world;
    drop(http);
    tokio::time::timeout(SOON, server).await.expect("it ends").unwrap().unwrap();
    eventually(0, || nodes[1].in_flight()).await;
}

#[tokio::test]
async fn copies_to_a_provider_cost_no_more_than_they_may() {
    let (node, far) = (FakeNode::start("n1").await, Far::start().await);
    let priced = json!({ "name": "m", "inputPricePerMillion": 1000, "outputPricePerMillion": 1000 });
    let offered = offering(provider("OpenAI", &far.url, json!({ "models": [priced] })));
    let mut canary = offered.namespace("default").providers["far"].models["m"].clone();
    canary.version = Some("v1.1.0".into());
    let world = World::start(table(Some(shadowing(version("v1.0.0", &[&node]), canary, 100)), &[])).await;
    let whole = json!({
        "choices": [{ "message": { "content": "Hi" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 200, "completion_tokens": 100 },
    });
    // 30 cents each, and half a dollar may be spent: the one that goes over it is the last.
    for asked in 1..=4 {
        far.next(Reply::json(200, whole.clone()));
        assert_eq!(ask(&world, None).await.status, 200);
        counted(&world, asked.min(2), 0).await;
    }
    assert_eq!(far.got().len(), 2);
    assert_eq!(world.stats().await.deployments[0].copies_cost_micros, 600_000);
    let stats = world.get("/drover/v1/stats?deployment=default/support-bot").await.json();
    let prices = stats["deployments"][0]["versions"]["v1.1.0"]["price"].as_object().unwrap().clone();
    assert_eq!(prices.values().filter_map(|count| count.as_u64()).sum::<u64>(), 2, "{stats}");
}

#[tokio::test]
async fn a_copy_that_a_provider_answered_in_part_costs_what_came_of_it() {
    let (node, far) = (FakeNode::start("n1").await, Far::start().await);
    let priced = json!({ "name": "m", "inputPricePerMillion": 1000, "outputPricePerMillion": 1000 });
    let offered = offering(provider("OpenAI", &far.url, json!({ "models": [priced], "maxConcurrentRequests": 1 })));
    let providers = offered.namespace("default").providers.clone();
    let mut canary = providers["far"].models["m"].clone();
    canary.version = Some("v1.1.0".into());
    let mut table = table(Some(shadowing(version("v1.0.0", &[&node]), canary, 100)), &[]);
    table.namespaces.get_mut("default").unwrap().providers = providers;
    let world = World::start(table).await;
    let words = ["one", "two", "three"].map(|text| json!({ "choices": [{ "delta": { "content": text } }] }));
    let whole = json!({
        "choices": [{ "message": { "content": "Hi" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 200, "completion_tokens": 100 },
    });
    let spent = async || world.stats().await.deployments[0].copies_cost_micros;
    // How much of it has come when a caller wants the place isn't known; sooner or later it is something.
    for round in 1..=20 {
        far.next(Reply::events(&words).held());
        let streamed = json!({ "model": "support-bot", "messages": [{ "role": "user", "content": "hi" }] });
        assert_eq!(world.post("/api/chat", &streamed).await.status, 200);
        eventually(1, || far.under_way()).await;
        far.next(Reply::json(200, whole.clone()));
        let messages = json!([{ "role": "user", "content": "hi" }]);
        let asked = json!({ "model": "provider/far/m", "messages": messages, "stream": false });
        assert_eq!(world.post("/api/chat", &asked).await.status, 200);
        eventually(round, || copies(&world, "GaveWay")).await;
        let spent = spent().await;
        assert!(spent <= 3000 * round, "a tenth of a cent for each word: {spent}");
        if spent > 0 {
            return;
        }
    }
    panic!("nothing was counted");
}
