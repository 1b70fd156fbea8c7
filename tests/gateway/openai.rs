//! OpenAI's chat completions over Ollama's own chat.

use serde_json::{Value, json};

use crate::{
    answers::one_version,
    support::{Act, FakeNode, World},
};

async fn ask(world: &World, mut asked: Value) -> crate::support::Answer {
    asked["model"] = "support-bot".into();
    asked.as_object_mut().unwrap().entry("messages").or_insert(json!([{ "role": "user", "content": "hi" }]));
    world.post("/v1/chat/completions", &asked).await
}

/// What the node gets.
async fn sent(asked: Value) -> Value {
    let (node, world): (FakeNode, World) = one_version().await;
    let answer = ask(&world, asked).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(node.requests()[0].0, "/api/chat");
    node.only_body()
}

fn calling() -> Vec<Value> {
    let call = |id: &str, city: &str| json!({ "id": id, "function": { "index": 0, "name": "weather", "arguments": { "city": city } } });
    vec![
        json!({ "message": { "role": "assistant", "content": "", "thinking": "hm" } }),
        json!({ "message": { "role": "assistant", "content": "", "tool_calls": [call("call_1", "Rome"), call("", "Oslo")] } }),
        json!({ "message": { "role": "assistant", "content": "" } }),
    ]
}

#[tokio::test]
async fn an_answer_is_a_chat_completion() {
    let (_node, world) = one_version().await;
    let answer = ask(&world, json!({})).await;
    assert_eq!(answer.header("content-type"), "application/json; charset=utf-8");
    let run = answer.header("x-drover-run-id");
    let body = answer.json();
    let wanted = json!({
        "id": format!("chatcmpl-{run}"), "object": "chat.completion", "created": body["created"],
        "model": "llama3.2:3b-v1.0.0", "system_fingerprint": "fp_v1.0.0",
        "choices": [{
            "index": 0, "message": { "role": "assistant", "content": "Hello from n1" }, "finish_reason": "stop",
        }],
        "usage": { "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18 },
    });
    assert_eq!(body, wanted);
    assert!(body["created"].as_i64().is_some_and(|created| created > 1_700_000_000));
}

#[tokio::test]
async fn a_stream_is_server_sent_events_that_end_with_done() {
    let (_node, world) = one_version().await;
    let answer = ask(&world, json!({ "stream": true, "stream_options": { "include_usage": true } })).await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let events = answer.events();
    assert_eq!(events.last().unwrap(), "[DONE]");
    let events: Vec<Value> =
        events[..events.len() - 1].iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let id = json!(format!("chatcmpl-{}", answer.header("x-drover-run-id")));
    for event in &events {
        assert_eq!((&event["id"], &event["model"]), (&id, &json!("llama3.2:3b-v1.0.0")));
        assert_eq!(event["object"], "chat.completion.chunk");
    }
    let choices: Vec<_> = events.iter().map(|event| event["choices"][0].clone()).collect();
    let piece = |delta: Value, reason: Value| json!({ "index": 0, "delta": delta, "finish_reason": reason });
    let wanted = [
        piece(json!({ "role": "assistant", "content": "Hello" }), Value::Null),
        piece(json!({ "content": " from " }), Value::Null),
        piece(json!({ "content": "n1" }), Value::Null),
        piece(json!({}), "stop".into()),
        Value::Null,
    ];
    assert_eq!(choices, wanted);
    assert_eq!(events[4]["choices"], json!([]));
    assert_eq!(events[4]["usage"], json!({ "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18 }));
    let without = ask(&world, json!({ "stream": true })).await;
    assert!(!without.text.contains("usage"), "{}", without.text);
    assert_eq!(without.events().len(), 5);
}

#[tokio::test]
async fn tool_calls_come_with_ids_and_arguments_as_text() {
    let (node, world) = one_version().await;
    node.always(Act::Say(calling()));
    let call = |id: &str, city: &str| json!({ "id": id, "type": "function", "function": { "name": "weather", "arguments": format!("{{\"city\":\"{city}\"}}") } });
    let answer = ask(&world, json!({})).await;
    let made = format!("call_{}_1", answer.header("x-drover-run-id"));
    let choice = answer.json()["choices"][0].clone();
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], Value::Null);
    assert_eq!(choice["message"]["tool_calls"], json!([call("call_1", "Rome"), call(&made, "Oslo")]));

    let answer = ask(&world, json!({ "stream": true })).await;
    let events: Vec<Value> = answer.events().iter().filter_map(|event| serde_json::from_str(event).ok()).collect();
    let deltas: Vec<_> = events.iter().map(|event| event["choices"][0]["delta"].clone()).collect();
    assert_eq!(deltas[0], json!({ "role": "assistant", "content": "", "reasoning": "hm" }));
    let ids: Vec<_> =
        deltas[1]["tool_calls"].as_array().unwrap().iter().map(|c| (c["index"].clone(), c["id"].clone())).collect();
    let made = format!("call_{}_1", answer.header("x-drover-run-id"));
    assert_eq!(ids, [(json!(0), json!("call_1")), (json!(1), json!(made))]);
    assert_eq!(events[2]["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn an_answer_that_was_cut_by_its_limit_says_length() {
    let (node, world) = one_version().await;
    let piece = json!({ "message": { "role": "assistant", "content": "Hel" }, "done_reason": "length" });
    node.always(Act::Say(vec![piece]));
    assert_eq!(ask(&world, json!({})).await.json()["choices"][0]["finish_reason"], "length");
    let events = ask(&world, json!({ "stream": true })).await.events();
    assert!(events[1].contains(r#""finish_reason":"length""#), "{events:?}");
}

#[tokio::test]
async fn parameters_take_ollamas_names() {
    let body = sent(json!({
        "temperature": 0.5, "top_p": 0.9, "seed": -7, "max_tokens": 5, "max_completion_tokens": 9, "stop": "END",
        "presence_penalty": 0.1, "frequency_penalty": 0.2, "reasoning_effort": "low", "user": "u", "n": 1,
        "response_format": { "type": "json_schema", "json_schema": { "name": "x", "schema": { "type": "object" } } },
    }));
    let body = body.await;
    let options = json!({
        "temperature": 0.5, "top_p": 0.9, "seed": -7, "num_predict": 9, "stop": ["END"],
        "presence_penalty": 0.1, "frequency_penalty": 0.2,
    });
    assert_eq!((&body["options"], &body["think"], &body["stream"]), (&options, &json!("low"), &json!(false)));
    assert_eq!(body["format"], json!({ "type": "object" }));
    assert_eq!(body.get("user"), None);
    let body = sent(json!({ "stop": ["a", "b"], "max_tokens": 5, "reasoning_effort": "none" })).await;
    assert_eq!((&body["options"]["stop"], &body["options"]["num_predict"]), (&json!(["a", "b"]), &json!(5)));
    assert_eq!(body["think"], json!(false));
    assert_eq!(sent(json!({ "response_format": { "type": "json_object" } })).await["format"], "json");
    assert_eq!(sent(json!({ "response_format": { "type": "text" } })).await.get("format"), None);
    assert_eq!(sent(json!({ "temperature": null })).await.get("options"), None);
}

#[tokio::test]
async fn messages_tools_and_images_take_ollamas_shape() {
    let tools = json!([{ "type": "function", "function": { "name": "weather", "parameters": { "type": "object" } } }]);
    let call = json!({ "id": "call_1", "type": "function", "function": { "name": "weather", "arguments": "{\"city\":\"Rome\"}" } });
    let asked = json!({ "tools": tools, "tool_choice": "auto", "messages": [
        { "role": "developer", "content": "Be brief." },
        { "role": "user", "content": [
            { "type": "text", "text": "What" }, { "type": "text", "text": "is this?" },
            { "type": "image_url", "image_url": { "url": "data:image/png;base64,aGk=" } },
        ] },
        { "role": "assistant", "content": null, "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "call_1", "content": "sunny" },
    ] });
    let body = sent(asked.clone()).await;
    let wanted = json!([
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": "What\nis this?", "images": ["aGk="] },
        { "role": "assistant", "content": "", "tool_calls":
            [{ "id": "call_1", "function": { "name": "weather", "arguments": { "city": "Rome" } } }] },
        { "role": "tool", "content": "sunny", "tool_name": "weather", "tool_call_id": "call_1" },
    ]);
    assert_eq!((&body["messages"], &body["tools"]), (&wanted, &tools));
    let mut asked = asked;
    asked["tool_choice"] = "none".into();
    assert_eq!(sent(asked).await.get("tools"), None);
}

#[tokio::test]
async fn what_ollama_can_not_do_is_refused_by_name() {
    let (node, world) = one_version().await;
    let user = |content: Value| json!({ "messages": [{ "role": "user", "content": content }] });
    let call = |arguments: &str| json!({ "messages": [{ "role": "assistant", "tool_calls": [{ "function": { "name": "f", "arguments": arguments } }] }] });
    let image = |url: &str| user(json!([{ "type": "image_url", "image_url": { "url": url } }]));
    let rows = [
        (json!({ "n": 2 }), "n:"),
        (json!({ "top_p": 1.5 }), "top_p: 1.5 is not a number from 0 to 1"),
        (json!({ "logit_bias": { "1": 2 } }), "logit_bias:"),
        (json!({ "functions": [{ "name": "f" }] }), "functions:"),
        (json!({ "modalities": ["audio"] }), "modalities:"),
        (json!({ "tool_choice": "required" }), "tool_choice:"),
        (json!({ "tools": [{ "type": "web" }] }), "tools[0]:"),
        (json!({ "temperature": "hot" }), "temperature:"),
        (json!({ "seed": 1.5 }), "seed:"),
        (json!({ "max_tokens": "many" }), "max_tokens:"),
        (json!({ "num_ctx": 0 }), "num_ctx: 0 is not a whole number from 1 to"),
        (json!({ "options": { "min_p": 2 } }), "options.min_p: 2 is not a number from 0 to 1"),
        (json!({ "stop": 7 }), "stop:"),
        (json!({ "reasoning_effort": "huge" }), "reasoning_effort:"),
        (json!({ "response_format": { "type": "xml" } }), "response_format.type:"),
        (json!({ "response_format": { "type": "json_schema" } }), "response_format.json_schema.schema"),
        (json!({ "messages": "hi" }), "messages:"),
        (json!({ "messages": null }), "messages is required"),
        (json!({ "messages": [{ "content": "hi" }] }), "messages[0]:"),
        (json!({ "messages": [{ "role": "wizard", "content": "hi" }] }), "messages[0].role:"),
        (user(json!(7)), "messages[0].content:"),
        (user(json!([{ "text": "hi" }])), "messages[0].content[0].type"),
        (user(json!([{ "type": "text" }])), "messages[0].content[0].text:"),
        (user(json!([{ "type": "input_audio" }])), "messages[0].content[0]:"),
        (image("https://example.com/cat.png"), "messages[0].content[0].image_url:"),
        (image("data:text/plain;base64,aGk="), "messages[0].content[0].image_url:"),
        (call("{"), "messages[0].tool_calls[0].function.arguments:"),
        (call("[1]"), "messages[0].tool_calls[0].function.arguments:"),
    ];
    for (asked, words) in rows {
        let answer = ask(&world, asked.clone()).await;
        assert_eq!(answer.status, 400, "{asked}: {}", answer.text);
        let error = answer.json()["error"].clone();
        assert!(error["message"].as_str().unwrap().starts_with(words), "{asked}: {error}");
        assert_eq!((&error["type"], &error["code"]), (&json!("invalid_request_error"), &json!("invalid_request")));
    }
    assert_eq!(node.count(), 0);
}
