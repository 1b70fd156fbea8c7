//! The spans of requests, as a collector gets them.

use std::time::{Duration, Instant};

use drover::{gateway::Settings, routing_table::RoutingTable, telemetry::Traces};
use futures::future::join_all;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::{
    Act, Answer, FakeNode, World,
    collector::{Collector, attribute, hex},
    deployment, plain,
    provider::{Far, Reply, offering, provider},
    table, version,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

async fn traced(endpoint: &str, table: RoutingTable) -> (Traces, World) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (traces, courier) = Traces::new(Some(endpoint), "drover-gateway").unwrap();
    tokio::spawn(courier);
    let world = World::start_with(table, Settings { tracer: traces.tracer(), ..Settings::default() }).await;
    (traces, world)
}

fn of_kind(spans: &[Span], kind: SpanKind) -> Vec<&Span> {
    let mut spans: Vec<_> = spans.iter().filter(|span| span.kind == kind as i32).collect();
    spans.sort_by_key(|span| span.start_time_unix_nano);
    spans
}

async fn ask(world: &World, model: &str, stream: bool) -> Answer {
    let asked = json!({ "model": model, "stream": stream, "options": { "temperature": 0.5, "seed": 7 },
        "messages": [{ "role": "user", "content": "my secret prompt" }] });
    let request = world.request("/api/chat", &asked).header("traceparent", format!("00-{TRACE}-{PARENT}-01"));
    Answer::read(request.header("tracestate", "vendor=1").send().await.unwrap()).await
}

#[tokio::test]
async fn a_request_and_its_attempts_are_spans_of_the_callers_trace_and_hold_nothing_of_what_was_said() {
    let collector = Collector::start().await;
    let nodes = FakeNode::start_many(2).await;
    let stable = version("v1.0.0", &[&nodes[0], &nodes[1]]);
    let (traces, world) = traced(&collector.url, table(Some(deployment(stable, None)), &[])).await;
    nodes.iter().for_each(|node| node.next(Act::Fail(500, "out of memory".into())));
    nodes.iter().for_each(|node| node.next(Act::Answer));
    assert_eq!(ask(&world, "support-bot", false).await.status, 502);
    let answer = ask(&world, "support-bot", true).await;
    assert_eq!(answer.status, 200);
    traces.finish().await;

    let spans = collector.spans();
    assert_eq!(collector.services(), ["drover-gateway"]);
    let (requests, attempts) = (of_kind(&spans, SpanKind::Server), of_kind(&spans, SpanKind::Client));
    assert_eq!((requests.len(), attempts.len(), spans.len()), (2, 3, 5));
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
    assert!(requests.iter().all(|span| hex(&span.parent_span_id) == PARENT && span.name == "chat support-bot"));
    let parents: Vec<_> = attempts.iter().map(|span| &span.parent_span_id).collect();
    assert_eq!(parents, [&requests[0].span_id, &requests[0].span_id, &requests[1].span_id]);

    let of = |span: &Span, keys: &[&str]| keys.iter().map(|key| attribute(&span.attributes, key)).collect::<Vec<_>>();
    let told = of(
        requests[1],
        &[
            "gen_ai.operation.name",
            "gen_ai.request.model",
            "gen_ai.response.model",
            "gen_ai.usage.input_tokens",
            "gen_ai.usage.output_tokens",
            "gen_ai.response.finish_reasons",
            "gen_ai.request.temperature",
            "gen_ai.request.seed",
            "drover.version",
            "http.response.status_code",
        ],
    );
    assert_eq!(told, ["chat", "support-bot", "llama3.2:3b-v1.0.0", "11", "7", "stop", "0.5", "7", "v1.0.0", "200"]);
    assert_eq!(attribute(&requests[1].attributes, "drover.run.id"), answer.header("x-drover-run-id"));
    assert_eq!(attribute(&requests[1].attributes, "drover.node"), answer.header("x-drover-node"));
    assert_eq!(of(attempts[0], &["drover.outcome", "error.type"]), ["Failed", "Failed"]);
    assert_eq!(of(attempts[2], &["drover.outcome", "error.type"]), ["Answered", ""]);
    let failed = attempts[0].status.as_ref().unwrap();
    assert_eq!((failed.code, failed.message.as_str()), (StatusCode::Error as i32, "HTTP 500: out of memory"));
    assert_eq!(requests[0].status.as_ref().unwrap().code, StatusCode::Error as i32);

    let mut sent: Vec<String> = nodes.iter().flat_map(|node| node.headers("traceparent")).collect();
    let mut expected: Vec<_> = attempts.iter().map(|span| format!("00-{TRACE}-{}-01", hex(&span.span_id))).collect();
    sent.sort();
    expected.sort();
    assert_eq!(sent, expected, "a node's own spans go below the attempt");
    assert!(nodes.iter().flat_map(|node| node.headers("tracestate")).all(|state| state == "vendor=1"));
    let bytes = String::from_utf8_lossy(&collector.bytes()).into_owned();
    assert!(!bytes.contains("secret") && !bytes.contains("Hello"), "{bytes}");
}

#[tokio::test]
async fn without_a_collector_the_callers_trace_is_passed_on_and_broken_headers_are_not() {
    let node = FakeNode::start("n1").await;
    let world = World::start(table(None, &[plain("m:1", &[&node])])).await;
    let whole = format!("00-{TRACE}-{PARENT}-00");
    for parent in [whole.as_str(), "00-0-0-00", "not a trace"] {
        let asked = json!({ "model": "m:1", "messages": [], "stream": false });
        let request = world.request("/api/chat", &asked).header("traceparent", parent);
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    assert_eq!(node.headers("traceparent"), [whole.as_str(), "", ""]);
}

#[tokio::test]
async fn a_provider_is_told_which_trace_it_belongs_to() {
    let far = Far::start().await;
    let models = json!({ "models": [{ "name": "m" }] });
    let world = World::start(offering(provider("OpenAI", &far.url, models))).await;
    far.next(Reply::json(200, json!({ "choices": [{ "message": { "content": "Hi" }, "finish_reason": "stop" }] })));
    let answer = ask(&world, "provider/far/m", false).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let got = &far.got()[0].headers;
    let sent = ["traceparent", "tracestate"].map(|name| got[name].to_str().unwrap());
    assert_eq!(sent, [&format!("00-{TRACE}-{PARENT}-01"), "vendor=1"]);
}

#[tokio::test]
async fn a_callers_made_up_names_are_in_no_spans_name_and_hang_ups_are_told() {
    let collector = Collector::start().await;
    let node = FakeNode::start("n1").await;
    let (traces, world) = traced(&collector.url, table(None, &[plain("m:1", &[&node])])).await;
    assert_eq!(ask(&world, "made-up", true).await.status, 404);
    node.next(Act::Hold);
    let asked = json!({ "model": "m:1", "messages": [] });
    let request = tokio::spawn(world.request("/api/chat", &asked).send());
    crate::support::eventually(1, || node.in_flight()).await;
    request.abort();
    crate::support::eventually(0, || node.in_flight()).await;
    traces.finish().await;
    let spans = collector.spans();
    let names: Vec<_> = of_kind(&spans, SpanKind::Server).iter().map(|span| span.name.clone()).collect();
    assert_eq!(names, ["chat", "chat m:1"]);
    let outcomes: Vec<_> = spans.iter().map(|span| attribute(&span.attributes, "drover.outcome")).collect();
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "Cancelled").count(), 2, "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_never_answers_harms_no_request() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoints = [format!("http://{}", silent.local_addr().unwrap()), "http://127.0.0.1:9".into()];
    let checks = endpoints.iter().map(async |endpoint| {
        let node = FakeNode::start("n1").await;
        let (traces, world) = traced(endpoint, table(None, &[plain("m:1", &[&node])])).await;
        // More spans than the queue takes.
        for _ in 0..22 {
            let answers = join_all((0..50).map(|_| ask(&world, "m:1", false))).await;
            assert!(answers.iter().all(|answer| answer.status == 200), "{endpoint}");
        }
        let began = Instant::now();
        traces.finish().await;
        assert!(began.elapsed() < Duration::from_secs(8), "{endpoint}: {:?}", began.elapsed());
    });
    join_all(checks).await;
}
