//! What a gateway counts, and under which names.

use std::{collections::BTreeSet, time::Duration};

use drover::gateway::{Settings, recorder::Recorder};
use serde_json::{Value, json};

use crate::support::{
    Act, FakeNode, World, canary, deployment, eventually, plain,
    provider::{models, offering, provider},
    table, version,
};

fn labels(operation: &str, requested: &str, response: &str, version: &str) -> String {
    format!(
        "gen_ai_operation_name=\"{operation}\",gen_ai_provider_name=\"ollama\",gen_ai_request_model=\"{requested}\",\
         gen_ai_response_model=\"{response}\",drover_version=\"{version}\""
    )
}

/// The names and labels of all series, without the values.
fn series(world: &World) -> BTreeSet<String> {
    let text = world.metrics.text();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

fn end(usage: u64) -> Value {
    json!({ "message": { "role": "assistant", "content": "" }, "eval_count": usage, "eval_duration": 2_000_000_000_u64 })
}

#[tokio::test]
async fn tokens_and_times_are_counted_by_model_under_the_conventions_names() {
    let node = FakeNode::start("n1").await;
    let stable = version("v1.0.0", &[&node]);
    let world = World::start(table(Some(deployment(stable, None)), &[plain("m:1", &[&node])])).await;
    node.always(Act::Say(vec![json!({ "message": { "role": "assistant", "content": "Hi" } }), end(4)]));
    for (model, stream) in [("support-bot", true), ("support-bot", true), ("m:1", false)] {
        let asked = json!({ "model": model, "messages": [], "stream": stream });
        assert_eq!(world.post("/v1/chat/completions", &asked).await.status, 200);
    }
    let bot = labels("chat", "support-bot", "llama3.2:3b-v1.0.0", "v1.0.0");
    let tag = labels("chat", "m:1", "m:1", "");
    let expected = [
        (format!("gen_ai_client_token_usage_sum{{{bot},gen_ai_token_type=\"input\"}}"), 22.0),
        (format!("gen_ai_client_token_usage_sum{{{bot},gen_ai_token_type=\"output\"}}"), 8.0),
        (format!("gen_ai_client_token_usage_bucket{{le=\"16.0\",{bot},gen_ai_token_type=\"input\"}}"), 2.0),
        (format!("gen_ai_server_request_duration_seconds_count{{{bot},error_type=\"\"}}"), 2.0),
        (format!("gen_ai_server_time_to_first_token_seconds_count{{{bot}}}"), 2.0),
        (format!("gen_ai_server_time_per_output_token_seconds_sum{{{bot}}}"), 1.0),
        (format!("gen_ai_client_token_usage_sum{{{tag},gen_ai_token_type=\"output\"}}"), 4.0),
        (format!("gen_ai_server_time_to_first_token_seconds_count{{{tag}}}"), 0.0),
        ("drover_gateway_queue_wait_seconds_count".into(), 3.0),
        ("drover_gateway_attempts_total{outcome=\"Answered\"}".into(), 3.0),
    ];
    for (series, value) in expected {
        let actual = world.metric(&series);
        assert!((actual - value).abs() < 1e-9, "{series} is {actual}, not {value}\n{}", world.metrics.text());
    }
}

#[tokio::test]
async fn a_callers_made_up_names_make_no_series() {
    let nodes = FakeNode::start_many(2).await;
    let all: Vec<_> = nodes.iter().collect();
    let deployed = deployment(version("v1.0.0", &all), canary(50, version("v1.1.0", &all)));
    let world = World::start(table(Some(deployed), &[plain("m:1", &all)])).await;
    for model in ["support-bot", "support-bot", "m:1"] {
        assert_eq!(world.post("/api/chat", &json!({ "model": model, "messages": [] })).await.status, 200);
    }
    let before = series(&world);
    for n in 0..200 {
        let asked = json!({ "model": format!("made-up-{n}"), "messages": [], "user": format!("user-{n}") });
        assert_eq!(world.post("/api/chat", &asked).await.status, 404);
        let spelled =
            json!({ "model": if n % 2 == 0 { "M:1" } else { "registry.ollama.ai/library/m:1" }, "messages": [] });
        let sent = world.request("/api/chat", &spelled).header("x-session-id", format!("session-{n}"));
        assert_eq!(sent.send().await.unwrap().status(), 200);
    }
    assert_eq!(world.get("/made/up/path").await.status, 404);
    assert_eq!(series(&world), before);
}

#[tokio::test]
async fn models_that_are_gone_leave_no_more_than_so_many_series() {
    let node = FakeNode::start("n1").await;
    let world = World::start(table(None, &[])).await;
    for n in 0..250 {
        let tag = format!("m-{n}:1");
        world.table.store(table(None, &[plain(&tag, &[&node])]).into());
        assert_eq!(world.post("/api/generate", &json!({ "model": tag, "prompt": "" })).await.status, 200);
    }
    let name = "gen_ai_server_request_duration_seconds_count";
    let counted = series(&world).iter().filter(|series| series.starts_with(name)).count();
    assert!((1..=102).contains(&counted), "{counted}");
    let last = labels("text_completion", "m-249:1", "m-249:1", "");
    let last = format!("gen_ai_server_request_duration_seconds_count{{{last},error_type=\"\"}}");
    assert_eq!(world.metric(&last) as u64, 1);
}

/// Each new table forgets what is gone; models of providers aren't.
#[tokio::test]
async fn models_of_providers_keep_their_series_however_many_they_are() {
    let names: Vec<String> = (0..120).map(|n| format!("m-{n}")).collect();
    let offers = models(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let table = || offering(provider("OpenAI", "http://127.0.0.1:9", offers.clone()));
    let world = World::start(table()).await;
    for name in &names {
        world.post("/api/generate", &json!({ "model": format!("provider/far/{name}"), "prompt": "a" })).await;
    }
    let before = series(&world);
    let counted = before.iter().filter(|series| series.starts_with("gen_ai_server_request_duration_seconds_count"));
    assert_eq!(counted.count(), names.len());
    world.table.store(table().into());
    assert_eq!(world.get("/v1/models").await.status, 200, "the new table is served");
    assert_eq!(series(&world), before);
}

#[tokio::test]
async fn failures_have_reasons_and_a_failing_node_is_seen_to_be_put_aside() {
    let nodes = [FakeNode::away("n1").await, FakeNode::start("n2").await];
    let target = plain("m:1", &[&nodes[0], &nodes[1]]);
    let world = World::start(table(None, &[target])).await;
    nodes[1].next(Act::Fail(500, "broken".into()));
    let asked = json!({ "model": "m:1", "messages": [], "stream": false });
    assert_eq!(world.post("/api/chat", &asked).await.status, 502);
    nodes[1].next(Act::Say(vec![json!({ "message": {}, "done_reason": "length" })]));
    assert_eq!(world.post("/api/chat", &asked).await.status, 200);
    let model = labels("chat", "m:1", "m:1", "");
    for (series, value) in [
        ("drover_gateway_failed_attempts_total{reason=\"NoConnection\"}", 1),
        ("drover_gateway_failed_attempts_total{reason=\"ServerError\"}", 1),
        ("drover_gateway_node_aside{node=\"default/n1\"}", 1),
        ("drover_gateway_node_aside{node=\"default/n2\"}", 0),
        (&format!("gen_ai_server_request_duration_seconds_count{{{model},error_type=\"Failed\"}}"), 1),
        (&format!("gen_ai_server_request_duration_seconds_count{{{model},error_type=\"\"}}"), 1),
    ] {
        assert_eq!(world.metric(series) as u64, value, "{series}\n{}", world.metrics.text());
    }
}

#[tokio::test]
async fn cut_prompts_and_schema_failures_count_for_their_model() {
    let node = FakeNode::start("n1").await;
    let world = World::start(table(None, &[plain("m:1", &[&node])])).await;
    node.next(Act::Fail(400, "input length exceeds the context length".into()));
    let mut asked = json!({ "model": "m:1", "messages": [{ "role": "user", "content": "Hi" }], "stream": false });
    assert_eq!(world.post("/api/chat", &asked).await.header("x-drover-truncated"), "true");
    asked["format"] = json!({ "type": "object" });
    let sent = world.request("/api/chat", &asked).header("x-drover-schema-check", "true").send().await.unwrap();
    assert!(sent.headers().contains_key("x-drover-schema-failure"));
    let model = labels("chat", "m:1", "m:1", "");
    for name in ["drover_gateway_cut_prompts_total", "drover_gateway_schema_failures_total"] {
        assert_eq!(world.metric(&format!("{name}{{{model}}}")) as u64, 1, "{}", world.metrics.text());
    }
}

#[tokio::test]
async fn who_waits_and_what_is_under_way_is_seen_while_it_is() {
    let node = FakeNode::start("n1").await;
    let mut target = plain("m:1", &[&node]);
    let mut entry = (*target.holders[0].node).clone();
    entry.max_concurrent_requests = 1;
    target.holders[0].node = entry.into();
    let settings = Settings { queue_limit: Duration::from_secs(30), ..Settings::default() };
    let world = World::start_recording(table(None, &[target]), settings, Recorder::default()).await;
    node.always(Act::Hold);
    let asked = json!({ "model": "m:1", "messages": [] });
    let (first, second) = (world.post("/api/chat", &asked), world.post("/api/chat", &asked));
    let look = async {
        let seen = || {
            let names =
                ["drover_gateway_queued_requests", "drover_gateway_node_in_flight_requests{node=\"default/n1\"}"];
            names.map(|name| world.metric(name) as u64)
        };
        eventually([1, 1], seen).await;
        node.let_go();
    };
    let (first, second, ()) = tokio::join!(first, second, look);
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(world.metric("drover_gateway_queued_requests") as u64, 0);
    assert!(series(&world).contains("drover_gateway_refused_for_records_total"));
}
