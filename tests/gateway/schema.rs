//! Answers that are checked by the JSON schemas of their requests, and prompts that are too long.

use drover::{
    domain::params::Truncation,
    gateway::{Settings, schema::SchemaCheck},
    routing_table::Deployment,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    answers::one_version,
    support::{Act, Answer, FakeNode, World, deployment, table, version},
};

/// What a node says, piece by piece, and why it stops.
fn says(pieces: &[&str], reason: &str) -> Act {
    let piece = |text: &&str| json!({ "message": { "role": "assistant", "content": text } });
    let mut pieces: Vec<Value> = pieces.iter().map(piece).collect();
    pieces.push(json!({ "message": { "role": "assistant", "content": "" }, "done_reason": reason }));
    Act::Say(pieces)
}

fn asked(stream: bool, format: Value) -> Value {
    let messages = json!([{ "role": "user", "content": "hi" }]);
    json!({ "model": "support-bot", "stream": stream, "format": format, "messages": messages })
}

fn schema() -> Value {
    json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] })
}

async fn checked(world: &World, asked: &Value, check: Option<&str>) -> Answer {
    let request = world.request("/api/chat", asked);
    let request = match check {
        Some(check) => request.header("x-drover-schema-check", check),
        None => request,
    };
    Answer::read(request.send().await.unwrap()).await
}

#[tokio::test]
async fn an_answer_that_breaks_its_schema_comes_with_a_header_and_counts_for_its_version() {
    let (node, world) = one_version().await;
    let rows = [
        (schema(), &["{\"n\"", ": 1}"][..], "stop", ""),
        (schema(), &["{\"n\": \"secret\"}"][..], "stop", "does not keep to /properties/n/type"),
        (schema(), &["{}"][..], "stop", "does not keep to /required"),
        (schema(), &["{\"n\": 1"][..], "stop", "not JSON"),
        (schema(), &["{\"n\": 1}"][..], "length", "cut by its length"),
        (json!("json"), &["[1]"][..], "stop", ""),
        (json!("json"), &["Sure!"][..], "stop", "not JSON"),
        (Value::Null, &["Sure!"][..], "stop", ""),
    ];
    for (format, pieces, reason, fault) in rows.clone() {
        for stream in [true, false] {
            node.next(says(pieces, reason));
            let answer = checked(&world, &asked(stream, format.clone()), Some("true")).await;
            assert_eq!((answer.status, answer.header("x-drover-schema-failure")), (200, fault), "{format} {pieces:?}");
            assert_eq!(answer.content(), pieces.concat(), "the answer comes all the same");
        }
    }
    let failed = rows.iter().filter(|row| !row.3.is_empty()).count() as u64;
    let stats = &world.stats().await.deployments[0].versions["v1.0.0"];
    assert_eq!((stats.schema_failures, stats.failures, stats.attempts), (2 * failed, 0, 2 * rows.len() as u64));
    let unchecked = rows.iter().filter(|row| row.0.is_null()).count();
    assert_eq!(stats.schema_checks, 2 * (rows.len() - unchecked) as u64, "only what asked for a schema is checked");
}

#[tokio::test]
async fn whether_answers_are_checked_says_the_request_else_the_deployment() {
    for (own, header, is_checked) in
        [(false, None, false), (true, None, true), (true, Some("false"), false), (false, Some("true"), true)]
    {
        let node = FakeNode::start("n1").await;
        let deployed = Deployment { schema_check: own, ..deployment(version("v1.0.0", &[&node]), None) };
        let world = World::start(table(Some(deployed), &[])).await;
        node.always(says(&["no"], "stop"));
        let answer = checked(&world, &asked(true, schema()), header).await;
        assert_eq!(answer.headers.contains_key("x-drover-schema-failure"), is_checked, "{own} {header:?}");
    }
    let (node, world) = one_version().await;
    for (format, header, words) in [
        (schema(), "yes", "x-drover-schema-check"),
        (json!({ "type": "nonsense" }), "true", "format"),
        (json!({ "$ref": "https://example.com/schema.json" }), "true", "format"),
    ] {
        let answer = checked(&world, &asked(true, format), Some(header)).await;
        assert_eq!(answer.status, 400);
        assert!(answer.text.contains(words), "{}", answer.text);
    }
    assert_eq!(node.count(), 0);
}

#[tokio::test]
async fn calls_of_tools_are_no_breach_of_a_schema() {
    let (node, world) = one_version().await;
    let call = json!({ "function": { "name": "weather", "arguments": {} } });
    let message = json!({ "role": "assistant", "content": "", "tool_calls": [call] });
    node.always(Act::Say(vec![json!({ "message": message })]));
    let answer = checked(&world, &asked(true, schema()), Some("true")).await;
    assert_eq!((answer.status, answer.header("x-drover-schema-failure")), (200, ""));
}

const TOO_LONG: &str = "the input length exceeds the context length";

#[tokio::test]
async fn a_prompt_that_is_too_long_is_cut_and_flagged_or_refused() {
    for (setting, own, is_cut) in [
        (Truncation::Allow, None, true),
        (Truncation::Refuse, None, false),
        (Truncation::Allow, Some(false), false),
        (Truncation::Refuse, Some(true), true),
    ] {
        let node = FakeNode::start("n1").await;
        let settings = Settings { truncation: setting, ..Settings::default() };
        let deployed = deployment(version("v1.0.0", &[&node]), None);
        let world = World::start_with(table(Some(deployed), &[]), settings).await;
        node.next(Act::Fail(400, TOO_LONG.into()));
        let answer = world.post("/api/chat", &json!({ "model": "support-bot", "truncate": own })).await;
        let flag = answer.header("x-drover-truncated").to_owned();
        let sent: Vec<_> = node.requests().iter().map(|(_, body)| body["truncate"].clone()).collect();
        if is_cut {
            assert_eq!((answer.status, flag.as_str(), answer.header("x-drover-attempts")), (200, "true", "1"));
            assert_eq!(sent, [json!(false), json!(true)], "{setting:?} {own:?}");
        } else {
            assert_eq!((answer.status, flag.as_str()), (400, ""));
            assert!(answer.text.contains(TOO_LONG) && answer.text.contains("num_ctx"), "{}", answer.text);
            assert_eq!(sent, [json!(false)], "{setting:?} {own:?}");
        }
        let answer = world.post("/api/chat", &json!({ "model": "support-bot" })).await;
        assert_eq!((answer.status, answer.header("x-drover-truncated")), (200, ""));
    }
}

proptest! {
    #[test]
    fn the_check_takes_an_answer_exactly_if_it_fits(n in prop_oneof![any::<i64>().prop_map(|n| json!(n)), "\\PC{0,8}".prop_map(Value::from)], cut in any::<bool>()) {
        let check = SchemaCheck::of(schema().to_string().as_bytes()).unwrap().unwrap();
        let content = json!({ "n": n }).to_string();
        let reason = if cut { "length" } else { "stop" };
        let line = json!({ "message": { "content": content }, "done": true, "done_reason": reason }).to_string();
        let fault = check.fault([line.as_bytes()].into_iter()).unwrap();
        prop_assert_eq!(fault.is_none(), n.is_i64() && !cut);
    }
}
