//! Callers who are slow, silent, many or wrong: each gets a clear answer or is dropped, and the others notice nothing.

use std::{io::Write, net::TcpStream as Blocking, time::Duration};

use drover::gateway::Settings;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{FakeNode, World, deployment, eventually, table, version};

const ENOUGH: Duration = Duration::from_secs(20);

fn chat() -> Value {
    json!({ "model": "support-bot", "stream": false })
}

async fn world_with(settings: Settings) -> (FakeNode, World) {
    let node = FakeNode::start("n1").await;
    let world = World::start_with(table(Some(deployment(version("v1.0.0", &[&node]), None)), &[]), settings).await;
    (node, world)
}

async fn connect(world: &World) -> TcpStream {
    TcpStream::connect(world.url.trim_start_matches("http://")).await.unwrap()
}

/// What comes until the gateway closes the connection.
async fn rest(mut connection: TcpStream) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(ENOUGH, connection.read_to_end(&mut text)).await;
    // Closed with bytes of ours unread, a connection is reset.
    let _ = read.expect("the gateway closes the connection");
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn who_sends_the_head_too_slowly_is_dropped() {
    let (node, world) = world_with(Settings { idle_limit: Duration::from_millis(300), ..Settings::default() }).await;
    let slow = (0..50).map(async |_| {
        let mut connection = connect(&world).await;
        connection.write_all(b"POST /api/chat HTTP/1.1\r\nhost: x\r\n").await.unwrap();
        let (mut reader, mut writer) = connection.into_split();
        let dripping = async {
            while writer.write_all(b"x-a: b\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let mut text = Vec::new();
        let closed = async { drop(reader.read_to_end(&mut text).await) };
        tokio::time::timeout(ENOUGH, async { tokio::join!(dripping, closed) }).await.expect("it is dropped");
    });
    let others = async {
        for _ in 0..20 {
            assert_eq!(world.post("/api/chat", &chat()).await.status, 200);
        }
    };
    tokio::join!(futures::future::join_all(slow), others);
    assert_eq!(node.count(), 20);
}

#[tokio::test]
async fn who_sends_the_body_too_slowly_is_told_so_and_dropped() {
    let settings = Settings { body_within: Duration::from_millis(300), ..Settings::default() };
    let (node, world) = world_with(settings).await;
    let paths = ["/api/chat", "/v1/chat/completions", "/v1/messages", "/api/show"];
    let slow = (0..40).map(async |index| {
        let mut connection = connect(&world).await;
        let head = format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n", paths[index % 4]);
        connection.write_all(head.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = connection.into_split();
        let dripping = async {
            while writer.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut answer = Vec::new();
        let closed = async { drop(reader.read_to_end(&mut answer).await) };
        tokio::time::timeout(ENOUGH, async { tokio::join!(dripping, closed) }).await.expect("it is dropped");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("was not there after 300ms"), "{answer}");
        assert!(answer.contains("connection: close") && answer.contains("\"error\""), "{answer}");
    });
    let others = async {
        for _ in 0..20 {
            assert_eq!(world.post("/api/chat", &chat()).await.status, 200);
        }
    };
    tokio::join!(futures::future::join_all(slow), others);
    assert_eq!(node.count(), 20);
}

#[tokio::test]
async fn heads_without_measure_are_refused() {
    let (node, world) = world_with(Settings::default()).await;
    for headers in ["x-a: b\r\n".repeat(1000), format!("x-a: {}\r\n", "b".repeat(1 << 20))] {
        let mut connection = connect(&world).await;
        // It may be closed before all of it was taken.
        let _ = connection.write_all(format!("POST /api/chat HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes()).await;
        let answer = rest(connection).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    assert_eq!(world.post("/api/chat", &chat()).await.status, 200);
    assert_eq!(node.count(), 1);
}

#[tokio::test]
async fn ten_thousand_idle_connections_hinder_nobody() {
    let (_node, world) = world_with(Settings::default()).await;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted).unwrap();
    // Both ends are in this process.
    let many = limit.maximum.map_or(10_000, |most| (most as usize).saturating_sub(1000) / 2).min(10_000);
    assert!(many >= 1_000, "the limit of open files leaves room for {many} connections only");
    let mut idle = Vec::with_capacity(many);
    for _ in 0..many {
        idle.push(connect(&world).await);
    }
    for stream in [true, false] {
        let answer = world.post("/api/chat", &json!({ "model": "support-bot", "stream": stream })).await;
        assert_eq!(answer.status, 200);
    }
    drop(idle);
}

#[tokio::test]
async fn bytes_that_are_no_http_get_a_400_or_nothing() {
    let (_node, world) = world_with(Settings::default()).await;
    for text in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
    ] {
        let mut connection = connect(&world).await;
        connection.write_all(text).await.unwrap();
        let answer = rest(connection).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    assert_eq!(world.post("/api/chat", &chat()).await.status, 200);
}

#[tokio::test]
async fn broken_json_and_broken_text_are_the_callers_mistakes() {
    let (node, world) = world_with(Settings::default()).await;
    let bodies: [&[u8]; 7] = [
        b"",
        b"{",
        b"[]",
        b"{\"model\": \"support-bot\",}",
        b"{\"model\": \"support-bot\", \"messages\": [\xff]}",
        b"{\"model\": \"support-\xc3\x28\"}",
        b"{\"model\": \"support-bot\"} {}",
    ];
    for path in ["/api/chat", "/v1/chat/completions"] {
        for body in bodies {
            let request = world.http.post(format!("{}{path}", world.url)).body(body.to_vec());
            let answer = crate::support::Answer::read(request.send().await.unwrap()).await;
            assert_eq!(answer.status, 400, "{path} {:?}: {}", String::from_utf8_lossy(body), answer.text);
            assert!(answer.json().get("error").is_some());
        }
    }
    assert_eq!(node.count(), 0);
    assert_eq!(world.post("/api/chat", &chat()).await.status, 200);
}

#[tokio::test]
async fn a_body_of_64_megabytes_is_carried_and_one_over_the_limit_is_refused() {
    let (node, world) = world_with(Settings { body_limit: 80 << 20, ..Settings::default() }).await;
    let with = |bytes: usize| {
        let image = "A".repeat(bytes);
        json!({ "model": "support-bot", "stream": false, "messages": [{ "role": "user", "content": "x", "images": [image] }] })
    };
    let (big, small) = (with(64 << 20), chat());
    let (answer, other) = tokio::join!(world.post("/api/chat", &big), world.post("/api/chat", &small));
    assert_eq!((answer.status, other.status), (200, 200));
    let answer = world.post("/api/chat", &with(81 << 20)).await;
    assert_eq!(answer.status, 413, "{}", answer.text);
    assert_eq!(node.count(), 2);
}

#[tokio::test]
async fn streams_under_way_end_and_idle_connections_close_when_the_gateway_drains() {
    let (node, world) = world_with(Settings::default()).await;
    let idle = connect(&world).await;
    node.next(crate::support::Act::HoldAfter(1));
    let answer = tokio::spawn(world.request("/api/chat", &json!({ "model": "support-bot" })).send());
    let answer = answer.await.unwrap().unwrap();
    world.shutdown.cancel();
    assert_eq!(rest(idle).await, "");
    eventually(true, || Blocking::connect(world.url.trim_start_matches("http://")).is_err()).await;
    node.let_go();
    let text = answer.text().await.unwrap();
    assert!(text.contains("\"done\":true"), "{text}");
    world.server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_caller_who_never_reads_holds_up_nobody_else() {
    let (_node, world) = world_with(Settings::default()).await;
    let mut deaf = Blocking::connect(world.url.trim_start_matches("http://")).unwrap();
    let body = chat().to_string();
    let request = format!("POST /api/chat HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    deaf.set_nonblocking(true).unwrap();
    for _ in 0..2000 {
        if deaf.write_all(request.as_bytes()).is_err() {
            break;
        }
    }
    for _ in 0..20 {
        assert_eq!(world.post("/api/chat", &chat()).await.status, 200);
    }
}
