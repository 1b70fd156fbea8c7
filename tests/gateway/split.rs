//! Which version answers.

use drover::{
    ports::GatewayStats,
    routing_table::{Deployment, Target},
};
use serde_json::json;

use crate::support::{Act, Answer, FakeNode, World, canary, deployment, eventually, table, version};

async fn ask(world: &World, session: Option<&str>) -> Answer {
    let request = world.request("/api/chat", &json!({ "model": "support-bot", "stream": false }));
    let request = session.into_iter().fold(request, |request, session| request.header("x-session-id", session));
    Answer::read(request.send().await.unwrap()).await
}

async fn versions(world: &World, count: usize) -> Vec<String> {
    let mut versions = Vec::new();
    for _ in 0..count {
        versions.push(ask(world, None).await.header("x-drover-version").to_owned());
    }
    versions
}

fn share(versions: &[String]) -> usize {
    versions.iter().filter(|version| *version == "v1.1.0").count()
}

fn rollout(node: &FakeNode, weight: u8) -> Deployment {
    deployment(version("v1.0.0", &[node]), canary(weight, version("v1.1.0", &[node])))
}

/// A version on a node that takes any number of requests at once.
fn with_room(name: &str, node: &FakeNode) -> Target {
    let mut target = version(name, &[node]);
    let mut wide = (*target.holders[0].node).clone();
    wide.max_concurrent_requests = 1000;
    target.holders[0].node = wide.into();
    target
}

#[tokio::test]
async fn shares_are_exact_in_every_run_of_requests() {
    let node = FakeNode::start("n1").await;
    for weight in [0, 1, 20, 50, 100] {
        let world = World::start(table(Some(rollout(&node, weight)), &[])).await;
        let versions = versions(&world, 100).await;
        assert_eq!(share(&versions), usize::from(weight));
        for window in versions.windows(10) {
            let wanted = f64::from(weight) / 10.0;
            assert!((share(window) as f64 - wanted).abs() <= 1.0, "{window:?} at {weight} %");
        }
        assert_eq!(world.counts("v1.1.0").await, (u64::from(weight), 0));
        assert_eq!(world.counts("v1.0.0").await, (100 - u64::from(weight), 0));
    }
}

#[tokio::test]
async fn shares_are_exact_also_under_load_and_while_the_weight_changes() {
    let node = FakeNode::start("n1").await;
    let world = World::start(table(Some(rollout(&node, 20)), &[])).await;
    let burst = || async {
        let answers = futures::future::join_all((0..100).map(|_| ask(&world, None))).await;
        share(&answers.iter().map(|answer| answer.header("x-drover-version").to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(burst().await, 20);
    world.table.store(table(Some(rollout(&node, 50)), &[]).into());
    assert_eq!(burst().await, 50);
}

#[tokio::test]
async fn the_reason_names_version_and_share() {
    let node = FakeNode::start("n1").await;
    let world = World::start(table(Some(rollout(&node, 50)), &[])).await;
    let mut reasons =
        [ask(&world, None).await, ask(&world, None).await].map(|answer| answer.header("x-drover-reason").to_owned());
    reasons.sort();
    let wanted = ["deployment support-bot: canary v1.1.0 has 50 %", "deployment support-bot: stable v1.0.0 has 50 %"];
    assert_eq!(reasons, wanted);
}

#[tokio::test]
async fn a_session_stays_on_its_side_on_every_gateway_and_while_the_canary_grows() {
    let node = FakeNode::start("n1").await;
    let sticky = |weight| Deployment { sticky_header: Some("x-session-id".into()), ..rollout(&node, weight) };
    let world = World::start(table(Some(sticky(20)), &[])).await;
    let other = World::start(table(Some(sticky(20)), &[])).await;
    let sessions: Vec<String> = (0..60).map(|n| format!("session-{n}")).collect();
    let mut on_canary = Vec::new();
    for session in &sessions {
        let first = ask(&world, Some(session)).await;
        assert!(first.header("x-drover-reason").ends_with(" %, by session"));
        for again in [ask(&world, Some(session)).await, ask(&other, Some(session)).await] {
            assert_eq!(again.header("x-drover-version"), first.header("x-drover-version"), "{session}");
        }
        if first.header("x-drover-version") == "v1.1.0" {
            on_canary.push(session);
        }
    }
    assert!((1..30).contains(&on_canary.len()), "{on_canary:?}");
    world.table.store(table(Some(sticky(60)), &[]).into());
    for session in on_canary {
        assert_eq!(ask(&world, Some(session)).await.header("x-drover-version"), "v1.1.0", "{session}");
    }
    world.table.store(table(Some(sticky(50)), &[]).into());
    for session in [None, Some("")] {
        let mut by_turn = Vec::new();
        for _ in 0..10 {
            by_turn.push(ask(&world, session).await.header("x-drover-version").to_owned());
        }
        assert_eq!(share(&by_turn), 5, "without a session, turns decide");
    }
}

#[tokio::test]
async fn of_a_session_the_first_attempt_in_a_step_counts() {
    let node = FakeNode::start("n1").await;
    let sticky = |weight, revision| Deployment {
        sticky_header: Some("x-session-id".into()),
        revision,
        ..rollout(&node, weight)
    };
    let world = World::start(table(Some(sticky(100, 1)), &[])).await;
    let counts = async || {
        let counts = world.stats().await.deployments[0].versions["v1.1.0"].clone();
        [counts.attempts, counts.failures, counts.repeats]
    };
    node.next(Act::Fail(500, "bad weights".into()));
    for _ in 0..5 {
        assert_eq!(ask(&world, Some("anna")).await.status, 200);
    }
    assert_eq!(counts().await, [1, 1, 4], "it is one bad session, however much it asks for");
    for _ in 0..3 {
        ask(&world, Some("ben")).await;
        ask(&world, None).await;
    }
    assert_eq!(counts().await, [5, 1, 6], "without a session each request is one of its own");
    world.table.store(table(Some(sticky(100, 2)), &[]).into());
    ask(&world, Some("anna")).await;
    assert_eq!(counts().await, [6, 1, 6], "another step");
    for _ in 0..10 {
        node.next(Act::Fail(500, "bad weights".into()));
        node.next(Act::Answer);
        ask(&world, Some("anna")).await;
    }
    assert!(world.stats().await.deployments[0].braked, "the brake looks at every attempt");
}

#[tokio::test]
async fn a_canary_without_nodes_gives_its_share_to_stable_and_the_failure_is_its_own() {
    let node = FakeNode::start("n1").await;
    let no_node = Target { holders: Vec::new(), ..version("v1.1.0", &[&node]) };
    let mut idle = version("v1.1.0", &[&node]);
    let mut resting = (*idle.holders[0].node).clone();
    resting.weight = 0;
    idle.holders[0].node = resting.into();
    for absent in [no_node, idle] {
        let rollout = deployment(version("v1.0.0", &[&node]), canary(100, absent));
        let world = World::start(table(Some(rollout), &[])).await;
        let answer = ask(&world, None).await;
        assert_eq!((answer.status, answer.header("x-drover-version")), (200, "v1.0.0"));
        let reason = "deployment support-bot: stable v1.0.0, canary v1.1.0 (100 %) has no ready node";
        assert_eq!(answer.header("x-drover-reason"), reason);
        assert_eq!(answer.header("x-drover-attempts"), "1");
        assert_eq!((world.counts("v1.0.0").await, world.counts("v1.1.0").await), ((1, 0), (1, 1)));
    }
}

#[tokio::test]
async fn a_canary_that_fails_is_answered_by_stable_and_counted_against_the_canary() {
    let nodes = FakeNode::start_many(3).await;
    let rollout = deployment(version("v1.0.0", &[&nodes[2]]), canary(100, version("v1.1.0", &[&nodes[0], &nodes[1]])));
    let world = World::start(table(Some(rollout), &[])).await;
    nodes[0].always(Act::Fail(500, "out of memory".into()));
    nodes[1].always(Act::CutAfter(0));
    let answer = ask(&world, None).await;
    assert_eq!((answer.status, answer.header("x-drover-version")), (200, "v1.0.0"));
    assert_eq!((answer.header("x-drover-node"), answer.header("x-drover-attempts")), ("n3", "3"));
    let reason = "deployment support-bot: stable v1.0.0, canary v1.1.0 (100 %) could not answer";
    assert_eq!(answer.header("x-drover-reason"), reason);
    assert_eq!((world.counts("v1.0.0").await, world.counts("v1.1.0").await), ((1, 0), (2, 2)));
}

#[tokio::test]
async fn a_canary_that_fails_outright_gets_no_more_requests_until_the_next_rollout() {
    let node = FakeNode::start("n1").await;
    let world = World::start(table(Some(rollout(&node, 50)), &[])).await;
    // Every second request is the canary's; stable answers it on the same node.
    for _ in 0..10 {
        let acts = [Act::Answer, Act::Fail(500, "bad weights".into()), Act::Answer];
        acts.into_iter().for_each(|act| node.next(act));
    }
    let answered = versions(&world, 40).await;
    assert_eq!(share(&answered), 0);
    assert_eq!(world.counts("v1.1.0").await, (10, 10), "no more was tried");
    let reason = "deployment support-bot: stable v1.0.0, canary v1.1.0 (50 %) fails outright";
    let of_canary =
        [ask(&world, None).await, ask(&world, None).await].map(|answer| answer.header("x-drover-reason") == reason);
    assert_eq!(of_canary.iter().filter(|told| **told).count(), 1);
    assert!(world.stats().await.deployments[0].braked);
    world.table.store(table(Some(rollout(&node, 20)), &[]).into());
    assert_eq!(share(&versions(&world, 10).await), 0, "another weight is no other rollout");
    assert!(world.stats().await.deployments[0].braked);

    world.table.store(table(Some(Deployment { rollout_id: "r2".into(), ..rollout(&node, 50) }), &[]).into());
    assert_eq!(share(&versions(&world, 40).await), 20, "another rollout is another chance");
    assert!(!world.stats().await.deployments[0].braked);
}

#[tokio::test]
async fn at_most_twenty_requests_wait_for_the_first_answer_of_a_canary() {
    let nodes = FakeNode::start_many(2).await;
    let rollout = deployment(version("v1.0.0", &[&nodes[0]]), canary(50, with_room("v1.1.0", &nodes[1])));
    let world = World::start(table(Some(rollout.clone()), &[])).await;
    nodes[1].always(Act::HoldThenCut);
    let burst = async {
        let answers = (0..100).map(|_| ask(&world, None));
        futures::future::join_all(answers).await
    };
    let watch = async {
        eventually(20, || nodes[1].in_flight()).await;
        eventually(80, || nodes[0].count()).await;
        assert_eq!(nodes[1].count(), 20, "though each second request is the canary's");
        nodes[1].let_go();
    };
    let (answers, ()) = tokio::join!(burst, watch);
    assert!(answers.iter().all(|answer| (answer.status, answer.header("x-drover-version")) == (200, "v1.0.0")));
    let reason = "deployment support-bot: stable v1.0.0, canary v1.1.0 (50 %) has answered nothing yet";
    let passed = answers.iter().filter(|answer| answer.header("x-drover-reason") == reason).count();
    assert_eq!((passed, nodes[1].count()), (30, 20));
    assert!(world.stats().await.deployments[0].braked);

    world.table.store(table(Some(Deployment { rollout_id: "r2".into(), ..rollout }), &[]).into());
    nodes[1].always(Act::Answer);
    assert_eq!(share(&versions(&world, 2).await), 1);
    let answers = futures::future::join_all((0..100).map(|_| ask(&world, None))).await;
    let of_canary = answers.iter().filter(|answer| answer.header("x-drover-version") == "v1.1.0").count();
    assert_eq!(of_canary, 50, "once it has answered, it has its share, however many ask");
}

#[tokio::test]
async fn callers_who_hang_up_or_are_wrong_do_not_close_a_canary() {
    let node = FakeNode::start("n1").await;
    let rollout = deployment(version("v1.0.0", &[&node]), canary(100, with_room("v1.1.0", &node)));
    let world = World::start(table(Some(rollout), &[])).await;
    node.always(Act::HoldThenCut);
    let asked = (0..20).map(|_| ask(&world, None));
    let patience = eventually(20, || node.in_flight());
    tokio::select! {
        _ = futures::future::join_all(asked) => panic!("nobody is answered"),
        () = patience => {}
    }
    eventually(0, || node.in_flight()).await;
    node.always(Act::Fail(400, "invalid option".into()));
    for _ in 0..25 {
        let answer = ask(&world, None).await;
        assert_eq!((answer.status, answer.header("x-drover-version")), (400, "v1.1.0"));
    }
}

#[tokio::test]
async fn a_fleet_without_nodes_is_no_fault_of_the_canary() {
    let node = FakeNode::start("n1").await;
    let nowhere = |name| Target { holders: Vec::new(), ..version(name, &[&node]) };
    let rollout = deployment(nowhere("v1.0.0"), canary(50, nowhere("v1.1.0")));
    let world = World::start(table(Some(rollout), &[])).await;
    for _ in 0..40 {
        assert_eq!(ask(&world, None).await.status, 503);
    }
    assert!(!world.stats().await.deployments[0].braked);
    assert_eq!(world.counts("v1.1.0").await, (0, 0));
}

#[tokio::test]
async fn a_canary_that_fails_together_with_stable_is_not_to_blame() {
    let node = FakeNode::start("n1").await;
    let world = World::start(table(Some(rollout(&node, 50)), &[])).await;
    node.always(Act::Fail(500, "out of memory".into()));
    for _ in 0..60 {
        ask(&world, None).await;
    }
    assert!(!world.stats().await.deployments[0].braked);
}

#[tokio::test]
async fn times_of_answers_are_told_of_one_deployment_at_a_time() {
    let node = FakeNode::start("n1").await;
    let world = World::start(table(Some(rollout(&node, 0)), &[])).await;
    for stream in [false, true, true] {
        let answer = world.post("/api/chat", &json!({ "model": "support-bot", "stream": stream })).await;
        assert_eq!(answer.status, 200);
    }
    let about = async |query: &str| -> GatewayStats {
        serde_json::from_str(&world.get(&format!("/drover/v1/stats{query}")).await.text).unwrap()
    };
    let all = about("").await;
    assert!(all.deployments[0].versions["v1.0.0"].latency.is_empty(), "all deployments' times would be a lot");
    let one = about("?deployment=default/support-bot").await;
    let counts = &one.deployments[0].versions["v1.0.0"];
    assert_eq!([counts.latency.total(), counts.first_token.total()], [3, 2], "streams have a first piece");
    assert_eq!(one.instance, all.instance, "the same process");
    assert!(about("?deployment=default/other").await.deployments.is_empty());
}

#[tokio::test]
async fn a_node_that_failed_one_version_may_answer_with_another_unless_it_is_away() {
    let node = FakeNode::start("n1").await;
    let world = World::start(table(Some(rollout(&node, 100)), &[])).await;
    node.next(Act::Fail(500, "bad weights".into()));
    let answer = ask(&world, None).await;
    assert_eq!((answer.status, answer.header("x-drover-version"), node.count()), (200, "v1.0.0", 2));
    node.next(Act::CutAfter(0));
    let answer = ask(&world, None).await;
    assert_eq!((answer.status, answer.header("x-drover-attempts"), node.count()), (502, "1", 3));
}

#[tokio::test]
async fn a_deployment_that_no_node_holds_says_so() {
    let node = FakeNode::start("n1").await;
    let nowhere = Target { holders: Vec::new(), ..version("v1.0.0", &[&node]) };
    let world = World::start(table(Some(deployment(nowhere, None)), &[])).await;
    for path in ["/api/chat", "/v1/chat/completions"] {
        let answer = world.post(path, &json!({ "model": "support-bot", "messages": [] })).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "5"));
        assert!(answer.text.contains("no ready node"), "{}", answer.text);
        assert!(answer.text.contains("deployment support-bot: stable v1.0.0"), "{}", answer.text);
        assert_eq!(answer.header("x-drover-version"), "v1.0.0");
        assert_eq!((answer.header("x-drover-attempts"), answer.header("x-drover-node")), ("0", ""));
    }
}
