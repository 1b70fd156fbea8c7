//! Anthropic's messages over Ollama's own chat.

use std::sync::Arc;

use drover::domain::node::NodeModel;
use serde_json::{Value, json};

use crate::{
    answers::one_version,
    support::{Act, Answer, FakeNode, World, deployment, table, version},
};

async fn ask(world: &World, mut asked: Value) -> Answer {
    asked["model"] = "support-bot".into();
    let fields = asked.as_object_mut().unwrap();
    fields.entry("messages").or_insert(json!([{ "role": "user", "content": "hi" }]));
    fields.entry("max_tokens").or_insert(64.into());
    world.post("/v1/messages", &asked).await
}

fn calling() -> Act {
    let call = json!({ "id": "call_1", "function": { "name": "weather", "arguments": { "city": "Rome" } } });
    Act::Say(vec![
        json!({ "message": { "role": "assistant", "content": "", "thinking": "hm" } }),
        json!({ "message": { "role": "assistant", "content": "I " } }),
        json!({ "message": { "role": "assistant", "content": "look." } }),
        json!({ "message": { "role": "assistant", "content": "", "tool_calls": [call] } }),
        json!({ "message": { "role": "assistant", "content": "" } }),
    ])
}

#[tokio::test]
async fn an_answer_is_a_message_of_blocks() {
    let (node, world) = one_version().await;
    node.next(calling());
    let answer = ask(&world, json!({})).await;
    let body = answer.json();
    let wanted = json!({
        "id": format!("msg_{}", answer.header("x-drover-run-id")), "type": "message", "role": "assistant",
        "model": "llama3.2:3b-v1.0.0", "stop_reason": "tool_use", "stop_sequence": null,
        "content": [
            { "type": "thinking", "thinking": "hm", "signature": "" },
            { "type": "text", "text": "I look." },
            { "type": "tool_use", "id": "call_1", "name": "weather", "input": { "city": "Rome" } },
        ],
        "usage": { "input_tokens": 11, "output_tokens": 7 },
    });
    assert_eq!(body, wanted);
    assert_eq!(ask(&world, json!({})).await.json()["stop_reason"], "end_turn");
    let piece = json!({ "message": { "role": "assistant", "content": "Hel" }, "done_reason": "length" });
    node.next(Act::Say(vec![piece]));
    assert_eq!(ask(&world, json!({})).await.json()["stop_reason"], "max_tokens");
}

#[tokio::test]
async fn a_stream_begins_and_ends_every_block() {
    let (node, world) = one_version().await;
    node.next(calling());
    let answer = ask(&world, json!({ "stream": true })).await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let told: Vec<String> = answer
        .text
        .split("\n\n")
        .filter(|event| !event.is_empty())
        .map(|event| {
            let (name, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
            let data: Value = serde_json::from_str(data).unwrap();
            assert_eq!(data["type"], name);
            let what = [&data["content_block"]["type"], &data["delta"]["type"]];
            let what = what.into_iter().find_map(Value::as_str).unwrap_or_default();
            format!("{name} {} {what}", data["index"].as_u64().map_or(String::new(), |index| index.to_string()))
        })
        .collect();
    let wanted = [
        "message_start  ",
        "content_block_start 0 thinking",
        "content_block_delta 0 thinking_delta",
        "content_block_stop 0 ",
        "content_block_start 1 text",
        "content_block_delta 1 text_delta",
        "content_block_delta 1 text_delta",
        "content_block_stop 1 ",
        "content_block_start 2 tool_use",
        "content_block_delta 2 input_json_delta",
        "content_block_stop 2 ",
        "message_delta  ",
        "message_stop  ",
    ];
    assert_eq!(told, wanted);
    node.next(Act::CutAfter(1));
    let broken = ask(&world, json!({ "stream": true })).await.text;
    assert!(broken.contains("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\""), "{broken}");
}

#[tokio::test]
async fn requests_take_ollamas_shape() {
    let (node, world) = one_version().await;
    let call = json!({ "type": "tool_use", "id": "t1", "name": "weather", "input": { "city": "Rome" } });
    let result =
        json!({ "type": "tool_result", "tool_use_id": "t1", "content": [{ "type": "text", "text": "sunny" }] });
    let image = json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "aGk=" } });
    let answer = ask(
        &world,
        json!({
            "system": [{ "type": "text", "text": "Be " }, { "type": "text", "text": "brief." }],
            "temperature": 0.5, "top_k": 3, "stop_sequences": ["END"], "metadata": { "user_id": "u" },
            "output_config": { "format": { "type": "json_schema", "schema": { "type": "object" } } },
            "tools": [{ "name": "weather", "description": "d", "input_schema": { "type": "object" } }],
            "messages": [
                { "role": "user", "content": [image, { "type": "text", "text": "What is this?" }] },
                { "role": "assistant", "content": [{ "type": "thinking", "thinking": "hm", "signature": "" }, call] },
                { "role": "user", "content": [result, { "type": "text", "text": "So?" }] },
            ],
        }),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let (path, body) = node.requests()[0].clone();
    let wanted = json!([
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": "What is this?", "images": ["aGk="] },
        { "role": "assistant", "content": "", "thinking": "hm",
            "tool_calls": [{ "id": "t1", "function": { "name": "weather", "arguments": { "city": "Rome" } } }] },
        { "role": "tool", "content": "sunny", "tool_name": "weather", "tool_call_id": "t1" },
        { "role": "user", "content": "So?" },
    ]);
    assert_eq!((path.as_str(), &body["messages"], &body["stream"]), ("/api/chat", &wanted, &json!(false)));
    let options = json!({ "num_predict": 64, "temperature": 0.5, "top_k": 3, "stop": ["END"] });
    assert_eq!((&body["options"], body.get("metadata"), body.get("system")), (&options, None, None));
    assert_eq!(body["tools"][0]["function"]["parameters"], json!({ "type": "object" }));
    assert_eq!((&body["format"], body.get("output_config")), (&json!({ "type": "object" }), None));
}

#[tokio::test]
async fn a_wish_to_think_is_dropped_for_models_that_can_not() {
    let rows = [
        (&["completion"][..], "llama", json!({ "type": "enabled", "budget_tokens": 1024 }), Value::Null),
        (&["completion", "thinking"][..], "qwen3", json!({ "type": "enabled", "budget_tokens": 1024 }), json!(true)),
        (&["completion", "thinking"][..], "qwen3", json!({ "type": "disabled" }), json!(false)),
        (&["completion", "thinking"][..], "qwen3", Value::Null, Value::Null),
    ];
    for (capabilities, family, thinking, wanted) in rows {
        let node = FakeNode::start("n1").await;
        let mut target = version("v1.0.0", &[&node]);
        target.details = Some(Arc::new(NodeModel {
            name: "a".into(),
            digest: "d".into(),
            size_bytes: 1,
            family: family.into(),
            parameter_size: String::new(),
            quantization: String::new(),
            capabilities: capabilities.iter().map(|&capability| capability.to_owned()).collect(),
            context_length: Some(4096),
        }));
        let world = World::start(table(Some(deployment(target, None)), &[])).await;
        let answer = ask(&world, json!({ "thinking": thinking })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(node.only_body()["think"], wanted, "{capabilities:?} {thinking}");
        let asked = json!({ "input": "hi", "model": "support-bot", "reasoning": { "effort": "high" } });
        assert_eq!(world.post("/v1/responses", &asked).await.status, 200);
        let think = node.requests()[1].1["think"].clone();
        let can = capabilities.contains(&"thinking");
        assert_eq!(think, if can { json!(true) } else { Value::Null }, "levels are for one family alone");
        let asked = json!({ "model": "support-bot", "messages": [], "options": { "num_ctx": 4097 } });
        let refused = world.post("/api/chat", &asked).await;
        assert_eq!(refused.status, 400);
        assert!(refused.text.contains("options.num_ctx: 4097 is not in the range from 1 to 4096"), "{}", refused.text);
    }
}

#[tokio::test]
async fn what_can_not_be_done_is_refused_in_anthropics_format() {
    let (node, world) = one_version().await;
    let user = |block: Value| json!({ "messages": [{ "role": "user", "content": [block] }] });
    let source = json!({ "type": "url", "url": "https://example.com/cat.png" });
    let rows = [
        (json!({ "max_tokens": 0 }), "max_tokens is required"),
        (json!({ "max_tokens": null }), "max_tokens is required"),
        (json!({ "messages": [] }), "messages:"),
        (json!({ "temperature": 2.5 }), "temperature: 2.5 is not a number from 0 to 2"),
        (json!({ "top_k": "many" }), "top_k: this text is not a whole number"),
        (json!({ "stop_sequences": "END" }), "stop_sequences: this text is not a list of strings"),
        (json!({ "tools": [{ "type": "web_search_20250305", "name": "web_search" }] }), "tools[0]:"),
        (json!({ "tool_choice": { "type": "any" } }), "tool_choice.type:"),
        (json!({ "messages": [{ "role": "wizard", "content": "hi" }] }), "messages[0].role:"),
        (user(json!({ "type": "image", "source": source })), "messages[0].content[0].source:"),
        (user(json!({ "type": "document", "source": {  "type": "text", "data": "x" } })), "messages[0].content[0]:"),
        (user(json!({ "type": "text" })), "messages[0].content[0].text"),
    ];
    for (asked, words) in rows {
        let answer = ask(&world, asked.clone()).await;
        assert_eq!(answer.status, 400, "{asked}: {}", answer.text);
        let body = answer.json();
        assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!("invalid_request_error")));
        assert!(body["error"]["message"].as_str().unwrap().starts_with(words), "{asked}: {body}");
    }
    let missing = world
        .post(
            "/v1/messages",
            &json!({ "model": "nope", "max_tokens": 1, "messages": [{ "role": "user", "content": "hi" }] }),
        )
        .await;
    assert_eq!((missing.status, &missing.json()["error"]["type"]), (404, &json!("not_found_error")));
    assert_eq!(node.count(), 0);
}
