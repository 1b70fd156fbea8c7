//! Clients that are slow, many, or make no sense: none of them hinders the others.

use std::time::Duration;

use axum::body::Body;
use drover::standalone::patience::{Patience, Patient};
use futures::{FutureExt, StreamExt, TryStreamExt, future::join_all, stream};
use http::Request;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::TcpStream,
    time::Instant,
};

use crate::{
    sides::{Embedded, Side, scenario},
    support::Scratch,
};

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn fresh(scratch: &Scratch) -> (Embedded, Side) {
    let embedded = Embedded::start(&scratch.join("state")).await;
    let side = Side::embedded(&embedded).await;
    (embedded, side)
}

/// A request without a port between.
async fn ask(embedded: &Embedded, request: http::request::Builder, body: Value) -> http::Response<Body> {
    let request = request.header("content-type", "application/json").body(Body::from(body.to_string()));
    embedded.api.answer(request.expect("a request")).await
}

/// The events of an answer.
fn events(response: http::Response<Body>) -> impl futures::Stream<Item = Value> {
    let chunks = response.into_body().into_data_stream().map_err(|error| panic!("{error}"));
    let events = chunks.map_ok(|chunk| {
        let lines: Vec<_> =
            chunk.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
        stream::iter(lines.into_iter().map(|line| serde_json::from_slice(&line).expect("an event is JSON")))
    });
    events.map(|events: Result<_, ()>| events.expect("it never fails")).flatten()
}

#[test]
fn nonsense_on_the_port_hinders_nobody() {
    scenario(|| async {
        let scratch = Scratch::new();
        let (embedded, side) = fresh(&scratch).await;
        let random: Vec<u8> = (0..4096).map(|_| rand::random()).collect();
        let hello = [&[0x16, 0x03, 0x01, 0xff, 0xff, 0x01, 0x00, 0xff, 0xff][..], &random].concat();
        for nonsense in [b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), random, hello, vec![0; 70_000]] {
            let mut connection = TcpStream::connect(embedded.server.address).await.expect("a connection");
            // It may be closed before everything was sent.
            let _ = connection.write_all(&nonsense).await;
            let _ = connection.shutdown().await;
            let mut answer = Vec::new();
            let ended = tokio::time::timeout(Duration::from_secs(5), connection.read_to_end(&mut answer)).await;
            assert!(ended.is_ok(), "{nonsense:?} leaves the connection open");
            assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
        }
        assert_eq!(side.ask("GET", CONFIGMAPS, &Value::Null).await.code, 200);
    });
}

#[test]
fn a_body_of_a_hundred_megabytes_is_refused_and_not_kept() {
    scenario(|| async {
        let scratch = Scratch::new();
        let (embedded, side) = fresh(&scratch).await;
        let before = resident();
        let megabyte = bytes::Bytes::from(vec![b' '; 1 << 20]);
        let chunks = stream::iter((0..100).map(move |_| Ok::<_, std::io::Error>(megabyte.clone())));
        let request = Request::post(CONFIGMAPS).header("content-type", "application/json");
        let answer = embedded.api.answer(request.body(Body::from_stream(chunks)).expect("a request")).await;
        assert_eq!(answer.status(), 413);
        assert!(resident() < before + (32 << 20), "{before} bytes became {}", resident());
        let answer = side.ask("POST", CONFIGMAPS, &json!(" ".repeat(100 << 20))).await;
        assert_eq!((answer.code, &answer.body["reason"]), (413, &json!("RequestEntityTooLarge")));
        assert_eq!(side.ask("GET", CONFIGMAPS, &Value::Null).await.code, 200);
    });
}

/// How much memory this process has, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

#[test]
fn ten_thousand_watchers_see_a_change() {
    const WATCHERS: usize = 10_000;
    scenario(|| async {
        let scratch = Scratch::new();
        let (embedded, side) = fresh(&scratch).await;
        let list = side.ask("GET", CONFIGMAPS, &Value::Null).await.body;
        let revision = list["metadata"]["resourceVersion"].as_str().expect("a revision");
        let path = format!("{CONFIGMAPS}?watch=true&resourceVersion={revision}");
        let before = resident();
        let mut watchers = Vec::new();
        for _ in 0..WATCHERS {
            let mut watcher = Box::pin(events(ask(&embedded, Request::get(&path), Value::Null).await));
            assert!(watcher.next().now_or_never().is_none(), "nothing happened yet");
            watchers.push(watcher);
        }
        let each = resident().saturating_sub(before) / WATCHERS;
        assert!(each < 10_000, "{each} bytes a watcher");
        // Besides, as many over real connections as other tests leave room for.
        let sockets =
            std::env::var("DROVER_SOCKETS").map_or(100, |count| count.parse().expect("DROVER_SOCKETS: a number"));
        let many = side.clone().with_many_connections();
        let connected = stream::iter(0..sockets).map(|_| many.lines(&path)).buffer_unordered(8);
        let connected: Vec<_> = connected.collect().await;
        let start = Instant::now();
        let made = side.ask("POST", CONFIGMAPS, &json!({ "metadata": { "name": "seen" } })).await.body;
        let first = |event: Option<Value>| assert_eq!(event.expect("an event")["object"], made);
        join_all(watchers.iter_mut().map(|watcher| watcher.next().map(first))).await;
        join_all(connected.into_iter().map(|watcher| async { first(watcher.boxed().next().await) })).await;
        println!(
            "{WATCHERS} watchers in process, {each} bytes each, and {sockets} connected ones: {:?}",
            start.elapsed()
        );
    });
}

#[test]
fn a_watcher_that_does_not_read_costs_little_and_starts_again() {
    /// More than are remembered.
    const CHANGES: usize = 13_000;
    scenario(|| async {
        let scratch = Scratch::new();
        let (embedded, _) = fresh(&scratch).await;
        let path = format!("{CONFIGMAPS}?watch=true");
        let mut slow: Vec<_> = Vec::new();
        for _ in 0..100 {
            let mut watcher = Box::pin(events(ask(&embedded, Request::get(&path), Value::Null).await));
            assert!(watcher.next().now_or_never().is_none(), "nothing is there yet");
            slow.push(watcher);
        }
        let change = async |number: usize| {
            let object = json!({ "metadata": { "name": format!("c-{number}") }, "data": { "a": "x".repeat(200) } });
            assert_eq!(ask(&embedded, Request::post(CONFIGMAPS), object).await.status(), 201);
        };
        stream::iter(0..CHANGES).for_each_concurrent(64, change).await;
        let before = resident();
        let ends = join_all(slow.into_iter().map(|watcher| watcher.fold(Value::Null, async |_, event| event)));
        for last in ends.await {
            assert_eq!((&last["type"], &last["object"]["code"]), (&json!("ERROR"), &json!(410)), "{last}");
        }
        assert!(resident() < before + (64 << 20), "{before} bytes became {}", resident());
    });
}

#[test]
fn a_server_that_is_asked_to_stop_ends_watches_and_finishes_requests() {
    scenario(|| async {
        let scratch = Scratch::new();
        let (mut embedded, side) = fresh(&scratch).await;
        let made = side.ask("POST", CONFIGMAPS, &json!({ "metadata": { "name": "a" } })).await;
        assert_eq!(made.code, 201);
        let mut watch = side.lines(&format!("{CONFIGMAPS}?watch=true")).await.boxed();
        assert_eq!(watch.next().await.expect("what is there")["type"], "ADDED");
        let writes = async {
            let mut codes = Vec::new();
            // One after another on one connection, until no new one is taken.
            for number in 0.. {
                let object = json!({ "metadata": { "name": format!("c-{number}") } });
                let Some(answer) = side.try_ask("POST", CONFIGMAPS, &object).await else { break };
                codes.push(answer.code);
            }
            codes
        };
        let stop = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            embedded.finish().await;
        };
        let (codes, ()) = tokio::join!(writes, stop);
        assert!(!codes.is_empty() && codes.iter().all(|code| *code == 201), "{codes:?}");
        let seen = watch.filter(|event| std::future::ready(event["type"] == "ADDED")).count().await;
        assert!(seen <= codes.len(), "{seen} of {}", codes.len());
        assert!(TcpStream::connect(embedded.server.address).await.is_err(), "it still listens");
        drop(embedded);
        let (_embedded, side) = fresh(&scratch).await;
        let list = side.ask("GET", CONFIGMAPS, &Value::Null).await.body;
        assert_eq!(list["items"].as_array().map(Vec::len), Some(codes.len() + 1));
    });
}

const PATIENCE: Patience =
    Patience { head: Duration::from_secs(3), idle: Duration::from_secs(9), write: Duration::from_secs(6) };

/// Reads until the connection is given up; after how long, in seconds.
async fn given_up(mut connection: Patient<tokio::io::DuplexStream>) -> u64 {
    let start = Instant::now();
    let mut bytes = [0; 64];
    loop {
        match connection.read(&mut bytes).await {
            Ok(count) => assert!(count > 0, "it was closed by the client"),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
                return start.elapsed().as_secs();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_in_is_given_up() {
    let (mut client, server) = duplex(64);
    let trickle = async {
        while client.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let waited = tokio::select! {
        waited = given_up(Patient::new(server, PATIENCE)) => waited,
        () = trickle => panic!("the server closed it"),
    };
    assert_eq!(waited, 3);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_asks_for_nothing_is_given_up_unless_it_is_being_answered() {
    let (_client, server) = duplex(64);
    assert_eq!(given_up(Patient::new(server, PATIENCE)).await, 9);

    let (mut client, server) = duplex(64);
    let mut server = Patient::new(server, PATIENCE);
    client.write_all(b"GET").await.expect("it is taken");
    server.read_exact(&mut [0; 3]).await.expect("it comes");
    let active = server.activity().begin();
    let waits = tokio::time::timeout(Duration::from_secs(100), server.read(&mut [0; 3])).await;
    assert!(waits.is_err(), "a watch was given up");
    drop(active);
    server.write_all(b"event").await.expect("it is taken");
    assert_eq!(given_up(server).await, 9);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_given_up() {
    let (client, server) = duplex(64);
    let mut server = Patient::new(server, PATIENCE);
    let start = Instant::now();
    let error = server.write_all(&[0; 65]).await.expect_err("nobody reads");
    assert_eq!((error.kind(), start.elapsed().as_secs()), (std::io::ErrorKind::TimedOut, 6));
    drop(client);
}
