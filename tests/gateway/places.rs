//! How many requests a node gets at once, who waits, and what a caller's hang-up frees.

use std::{slice, sync::Arc, time::Duration};

use drover::{
    gateway::{
        Settings,
        balance::{Balance, NoPlace, Place, Wish},
    },
    ports::NodeError,
    routing_table::{Holder, Node, Target},
};
use futures::{FutureExt, StreamExt, future::join_all};
use serde_json::{Value, json};

use crate::support::{Act, FakeNode, World, deployment, eventually, holder, table, version};

const LONG: Duration = Duration::from_secs(60);
const MANY: usize = 1000;

fn chat(stream: bool) -> Value {
    json!({ "model": "support-bot", "stream": stream })
}

fn at_most(limit: u32, mut target: Target) -> Target {
    for holder in &mut target.holders {
        let node = Node { max_concurrent_requests: limit, ..(*holder.node).clone() };
        holder.node = node.into();
    }
    target
}

async fn one_place() -> (FakeNode, World) {
    one_place_with(Settings::default()).await
}

async fn one_place_with(settings: Settings) -> (FakeNode, World) {
    let node = FakeNode::start("n1").await;
    let deployed = deployment(at_most(1, version("v1.0.0", &[&node])), None);
    let world = World::start_with(table(Some(deployed), &[]), settings).await;
    (node, world)
}

#[tokio::test]
async fn a_node_never_gets_more_than_its_limit_and_nobody_is_lost() {
    let nodes = FakeNode::start_many(2).await;
    let deployed = deployment(at_most(3, version("v1.0.0", &[&nodes[0], &nodes[1]])), None);
    let world = World::start(table(Some(deployed), &[])).await;
    nodes.iter().for_each(|node| node.always(Act::HoldAfter(2)));
    let (streamed, whole) = (chat(true), chat(false));
    let all =
        join_all((0..40_usize).map(|n| world.post("/api/chat", if n.is_multiple_of(2) { &streamed } else { &whole })));
    let watch = async {
        eventually((3, 3), || (nodes[0].in_flight(), nodes[1].in_flight())).await;
        nodes.iter().for_each(FakeNode::let_go);
    };
    let (answers, ()) = tokio::join!(all, watch);
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.content().starts_with("Hello from n")));
    assert_eq!((nodes[0].most_in_flight(), nodes[1].most_in_flight()), (3, 3));
    assert_eq!(nodes[0].count() + nodes[1].count(), 40);
}

#[tokio::test]
async fn who_waits_too_long_is_told_when_to_come_back() {
    let (node, world) =
        one_place_with(Settings { queue_limit: Duration::from_millis(50), ..Settings::default() }).await;
    node.always(Act::Hold);
    let (asked, other) = (chat(true), chat(false));
    let first = world.post("/api/chat", &asked);
    let second = async {
        eventually(1, || node.in_flight()).await;
        let answer = world.post("/api/chat", &other).await;
        node.let_go();
        answer
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.status, 200);
    assert_eq!((second.status, second.header("retry-after"), second.header("x-drover-attempts")), (503, "5", "0"));
    let error = second.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("full for 50ms"), "{error}");
    assert_eq!(world.counts("v1.0.0").await, (1, 0));
}

#[tokio::test]
async fn a_hang_up_ends_the_request_on_the_node_frees_the_place_and_counts_for_nothing() {
    for stream in [true, false] {
        for act in [Act::Hold, Act::HoldAfter(0), Act::HoldAfter(2)] {
            if act == Act::HoldAfter(2) && !stream {
                continue; // there are no lines
            }
            let (node, world) = one_place().await;
            node.next(act.clone());
            let request = tokio::spawn(world.request("/api/chat", &chat(stream)).send());
            eventually(1, || node.in_flight()).await;
            if act == Act::HoldAfter(2) {
                let mut body = request.await.unwrap().unwrap().bytes_stream();
                assert!(body.next().await.unwrap().unwrap().starts_with(b"{\"model\":\"llama3.2"));
            } else {
                request.abort();
            }
            eventually(0, || node.in_flight()).await;
            let answer = world.post("/api/chat", &chat(stream)).await;
            assert_eq!((answer.status, answer.header("x-drover-attempts")), (200, "1"), "{act:?}");
            assert_eq!(world.counts("v1.0.0").await, (1, 0), "{act:?}");
        }
    }
}

#[tokio::test]
async fn many_hang_ups_at_once_close_nothing_to_the_others() {
    let node = FakeNode::start("n1").await;
    let deployed = deployment(at_most(8, version("v1.0.0", &[&node])), None);
    let world = World::start(table(Some(deployed), &[])).await;
    (0..8).for_each(|_| node.next(Act::Hold));
    let requests: Vec<_> = (0..32).map(|_| tokio::spawn(world.request("/api/chat", &chat(true)).send())).collect();
    eventually(8, || node.in_flight()).await;
    requests.iter().for_each(tokio::task::JoinHandle::abort);
    eventually(0, || node.in_flight()).await;
    for _ in 0..20 {
        let answer = world.post("/api/chat", &chat(true)).await;
        assert_eq!((answer.status, answer.header("x-drover-node")), (200, "n1"));
    }
    let (_, failures) = world.counts("v1.0.0").await;
    assert_eq!(failures, 0);
}

#[tokio::test]
async fn a_hang_up_in_the_queue_leaves_the_turn_to_the_next() {
    let (node, world) = one_place().await;
    node.next(Act::Hold);
    let first = tokio::spawn(world.request("/api/chat", &chat(false)).send());
    eventually(1, || node.in_flight()).await;
    let impatient = tokio::spawn(world.request("/api/chat", &chat(false)).send());
    let patient = tokio::spawn(world.request("/api/chat", &chat(false)).send());
    impatient.abort();
    node.let_go();
    assert_eq!(first.await.unwrap().unwrap().status().as_u16(), 200);
    assert_eq!(patient.await.unwrap().unwrap().status().as_u16(), 200);
    assert_eq!(node.most_in_flight(), 1);
}

/// A place for a caller who brings nothing but patience.
fn place<'a>(
    balance: &'a Arc<Balance>,
    holders: &[Holder],
    patience: Duration,
) -> impl Future<Output = Result<Place, NoPlace>> + use<'a> {
    let pool = balance.pool(holders);
    async move { balance.place(&pool, Wish::default(), |_| true, patience).await }
}

/// A node that is never called.
async fn idle(name: &str, limit: u32) -> Holder {
    let mut holder = holder(&FakeNode::start(name).await);
    holder.node = Node { max_concurrent_requests: limit, ..(*holder.node).clone() }.into();
    holder
}

#[tokio::test]
async fn places_are_given_in_the_order_of_waiting_to_those_who_can_use_them() {
    let balance = Arc::new(Balance::new(MANY));
    let (a, b) = (idle("a", 1).await, idle("b", 1).await);
    let on_a = place(&balance, slice::from_ref(&a), LONG).await.unwrap();
    let on_b = place(&balance, slice::from_ref(&b), LONG).await.unwrap();
    assert!(place(&balance, &[a.clone(), b.clone()], Duration::ZERO).await.err() == Some(NoPlace::Full));
    let mut first = Box::pin(place(&balance, slice::from_ref(&a), LONG));
    let mut second = Box::pin(place(&balance, &[a.clone(), b.clone()], LONG));
    let mut third = Box::pin(place(&balance, slice::from_ref(&b), LONG));
    for waiting in [&mut first, &mut second, &mut third] {
        assert!(waiting.now_or_never().is_none());
    }
    drop(on_b);
    assert!(first.as_mut().now_or_never().is_none(), "it can't use b");
    let second = second.now_or_never().and_then(Result::ok).expect("the next in order");
    assert_eq!(second.holder().node.name, "b");
    drop(on_a);
    assert_eq!(first.now_or_never().and_then(Result::ok).expect("its turn").holder().node.name, "a");
    drop(second);
    assert!(third.now_or_never().and_then(Result::ok).is_some());
}

#[tokio::test]
async fn who_left_the_queue_or_did_not_take_the_place_holds_nothing() {
    let balance = Arc::new(Balance::new(MANY));
    let node = idle("a", 1).await;
    let taken = place(&balance, slice::from_ref(&node), LONG).await.unwrap();
    let mut gone = Box::pin(place(&balance, slice::from_ref(&node), LONG));
    let mut served = Box::pin(place(&balance, slice::from_ref(&node), LONG));
    let mut last = Box::pin(place(&balance, slice::from_ref(&node), LONG));
    for waiting in [&mut gone, &mut served, &mut last] {
        assert!(waiting.now_or_never().is_none());
    }
    drop(gone);
    drop(taken);
    drop(served); // has been given the place by now, and never looks
    assert!(last.now_or_never().and_then(Result::ok).is_some());
}

#[tokio::test]
async fn a_new_table_changes_limits_for_those_who_wait_and_keeps_the_counts() {
    let (node, world) = one_place().await;
    node.always(Act::Hold);
    let asked = chat(true);
    let requests = join_all((0..3).map(|_| world.post("/api/chat", &asked)));
    let watch = async {
        eventually(1, || node.in_flight()).await;
        let wider = deployment(at_most(2, version("v1.0.0", &[&node])), None);
        world.table.store(table(Some(wider), &[]).into());
        world.stats().await;
        eventually(2, || node.in_flight()).await;
        node.let_go();
    };
    let (answers, ()) = tokio::join!(requests, watch);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(node.most_in_flight(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_to_which_the_connection_failed_goes_behind_the_others_for_some_seconds() {
    let balance = Arc::new(Balance::new(MANY));
    let (mut a, b) = (idle("a", 9).await, idle("b", 9).await);
    a.loaded = true;
    let chosen = async || place(&balance, &[a.clone(), b.clone()], LONG).await.unwrap();
    let first = chosen().await;
    assert_eq!(first.holder().node.name, "a");
    first.note(Some(&NodeError::Status { status: 500, message: String::new() }));
    assert_eq!(chosen().await.holder().node.name, "a", "an answer, if a bad one");
    first.note(Some(&NodeError::Connect("refused".into())));
    assert_eq!(chosen().await.holder().node.name, "b");
    let only_a = place(&balance, slice::from_ref(&a), LONG).await.unwrap();
    assert_eq!(only_a.holder().node.name, "a", "better than none");
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(chosen().await.holder().node.name, "a");
    first.note(Some(&NodeError::TimedOut(LONG)));
    first.note(None);
    assert_eq!(chosen().await.holder().node.name, "a", "it worked since");
}

#[tokio::test]
async fn callers_who_wait_take_turns_however_many_requests_each_has() {
    let balance = Arc::new(Balance::new(MANY));
    let pool = balance.pool(&[idle("a", 1).await]);
    let ask = |caller: &'static str| {
        let wish = Wish { caller: Some(caller.as_bytes()), ..Wish::default() };
        Box::pin(balance.place(&pool, wish, |_| true, LONG))
    };
    let mut taken = ask("0").await.unwrap();
    let mut waiting: Vec<_> = ["a", "a", "a", "b", "c", "c"].into_iter().map(|caller| (caller, ask(caller))).collect();
    waiting.iter_mut().for_each(|(_, request)| assert!(request.as_mut().now_or_never().is_none()));
    let mut order = Vec::new();
    while !waiting.is_empty() {
        drop(taken);
        let served = waiting
            .iter_mut()
            .enumerate()
            .find_map(|(at, (_, request))| Some((at, request.as_mut().now_or_never()?.unwrap())));
        let (at, place) = served.expect("a free place is given out");
        order.push(waiting.remove(at).0);
        taken = place;
    }
    assert_eq!(order, ["a", "b", "c", "a", "c", "a"]);
}

#[tokio::test]
async fn no_more_than_so_many_wait() {
    let settings = Settings { queue_length: 2, ..Settings::default() };
    let (node, world) = one_place_with(settings).await;
    node.always(Act::Hold);
    let requests: Vec<_> = (0..3).map(|_| tokio::spawn(world.request("/api/chat", &chat(false)).send())).collect();
    eventually(1, || node.in_flight()).await;
    let refused = async {
        loop {
            let answer = world.request("/api/chat", &chat(false)).timeout(Duration::from_millis(200)).send().await;
            if let Ok(answer) = answer {
                return (
                    answer.status().as_u16(),
                    answer.headers()["retry-after"].clone(),
                    answer.text().await.unwrap(),
                );
            }
        }
    };
    let (status, after, text) = refused.await;
    assert_eq!((status, after.to_str().unwrap()), (503, "5"));
    assert!(text.contains("too many requests wait already"), "{text}");
    node.let_go();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().status().as_u16(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_keeps_failing_goes_behind_the_others_and_is_tried_by_one_request_first() {
    let balance = Arc::new(Balance::new(MANY));
    let (mut a, b) = (idle("a", 9).await, idle("b", 9).await);
    a.loaded = true;
    let pool = balance.pool(&[a, b]);
    let chosen = async || balance.place(&pool, Wish::default(), |_| true, LONG).await.unwrap();
    let error = NodeError::Status { status: 500, message: String::new() };
    for _ in 0..5 {
        let place = chosen().await;
        assert_eq!(place.holder().node.name, "a");
        place.note(Some(&error));
    }
    assert_eq!(chosen().await.holder().node.name, "b", "five failures in a row");
    tokio::time::advance(Duration::from_secs(6)).await;
    let trial = chosen().await;
    assert_eq!(trial.holder().node.name, "a", "one request tries it");
    assert_eq!(chosen().await.holder().node.name, "b", "the others wait for the outcome");
    trial.note(Some(&error));
    drop(trial);
    assert_eq!(chosen().await.holder().node.name, "b", "it failed again");
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(chosen().await.holder().node.name, "b", "and is left alone for longer");
    tokio::time::advance(Duration::from_secs(5)).await;
    let trial = chosen().await;
    assert_eq!(trial.holder().node.name, "a");
    drop(trial); // its caller hung up, which says nothing
    let trial = chosen().await;
    assert_eq!(trial.holder().node.name, "a");
    trial.note(None);
    assert_eq!(chosen().await.holder().node.name, "a", "it works again");
    assert_eq!(chosen().await.holder().node.name, "a");
}

#[tokio::test]
async fn a_session_stays_on_its_node_and_sessions_spread() {
    let nodes = FakeNode::start_many(3).await;
    let target = at_most(4, version("v1.0.0", &nodes.iter().collect::<Vec<_>>()));
    let world = World::start(table(Some(deployment(target, None)), &[])).await;
    let asked = chat(false);
    let mut used = std::collections::BTreeSet::new();
    for session in 0..20 {
        let ask = async || {
            let request = world.request("/api/chat", &asked).header("x-session-id", format!("s-{session}"));
            request.send().await.unwrap().headers()["x-drover-node"].to_str().unwrap().to_owned()
        };
        let first = ask().await;
        assert_eq!((ask().await, ask().await), (first.clone(), first.clone()));
        used.insert(first);
    }
    assert_eq!(used.len(), 3, "{used:?}");
    let opening = |text: &str, turns: usize| {
        let turn = |n: usize| json!({ "role": if n.is_multiple_of(2) { "user" } else { "assistant" }, "content": text.repeat(80) });
        json!({ "model": "support-bot", "stream": false, "messages": (0..turns).map(turn).collect::<Vec<_>>() })
    };
    for text in ["Why is the sky blue? ", "What is the time? ", "Who are you? "] {
        let node =
            async |turns| world.post("/api/chat", &opening(text, turns)).await.header("x-drover-node").to_owned();
        assert_eq!(node(1).await, node(3).await, "a conversation is known by how it begins");
    }
}
