//! OpenAI's responses, completions and embeddings over Ollama's own API.

use serde_json::{Value, json};

use crate::{
    answers::one_version,
    support::{Act, Answer, FakeNode, World},
};

async fn ask(world: &World, path: &str, mut asked: Value) -> Answer {
    asked["model"] = "support-bot".into();
    world.post(path, &asked).await
}

/// What the node gets: path and body.
async fn sent(path: &str, asked: Value) -> (String, Value) {
    let (node, world): (FakeNode, World) = one_version().await;
    node.always(Act::Say(vec![json!({ "embeddings": [[0.5, -1.0]] })]));
    let answer = ask(&world, path, asked).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    node.requests()[0].clone()
}

/// Name and data of each event.
fn events(answer: &Answer) -> Vec<(String, Value)> {
    let event = |event: &str| {
        let (name, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        (name.to_owned(), serde_json::from_str(data).unwrap())
    };
    answer.text.split("\n\n").filter(|text| !text.is_empty()).map(event).collect()
}

fn thinking_and_calling() -> Act {
    let call = json!({ "id": "call_1", "function": { "name": "weather", "arguments": { "city": "Rome" } } });
    Act::Say(vec![
        json!({ "message": { "role": "assistant", "content": "", "thinking": "h" } }),
        json!({ "message": { "role": "assistant", "content": "", "thinking": "m" } }),
        json!({ "message": { "role": "assistant", "content": "I look." } }),
        json!({ "message": { "role": "assistant", "content": "", "tool_calls": [call] } }),
        json!({ "message": { "role": "assistant", "content": "" } }),
    ])
}

#[tokio::test]
async fn a_response_has_items_for_thoughts_texts_and_calls_streamed_or_not() {
    let (node, world) = one_version().await;
    node.always(thinking_and_calling());
    let asked = json!({ "input": "Rome?", "instructions": "Be brief.", "temperature": 0.5, "metadata": { "a": "b" } });
    let answer = ask(&world, "/v1/responses", asked.clone()).await;
    let (run, body) = (answer.header("x-drover-run-id").to_owned(), answer.json());
    assert_eq!((&body["object"], &body["status"]), (&json!("response"), &json!("completed")));
    assert_eq!((&body["id"], &body["model"]), (&json!(format!("resp_{run}")), &json!("llama3.2:3b-v1.0.0")));
    assert_eq!((&body["instructions"], &body["temperature"]), (&json!("Be brief."), &json!(0.5)));
    assert_eq!((&body["metadata"], &body["store"], &body["top_p"]), (&json!({ "a": "b" }), &json!(false), &json!(1.0)));
    assert_eq!(body["usage"]["total_tokens"], 18);
    let kinds: Vec<_> = body["output"].as_array().unwrap().iter().map(|item| item["type"].clone()).collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call"]);
    assert_eq!(body["output"][0]["summary"][0]["text"], "hm");
    assert_eq!(body["output"][1]["content"][0]["text"], "I look.");
    assert_eq!(body["output"][2]["arguments"], r#"{"city":"Rome"}"#);

    let mut asked = asked;
    asked["stream"] = true.into();
    let answer = ask(&world, "/v1/responses", asked).await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let events = events(&answer);
    for (number, (name, data)) in events.iter().enumerate() {
        assert_eq!((&data["type"], &data["sequence_number"]), (&json!(name), &json!(number)));
    }
    let count = |name: &str| events.iter().filter(|(event, _)| event == name).count();
    assert_eq!((count("response.output_item.added"), count("response.output_item.done")), (3, 3));
    assert_eq!((count("response.reasoning_summary_text.delta"), count("response.output_text.delta")), (2, 1));
    let (last, data) = events.last().unwrap();
    assert_eq!(last, "response.completed");
    let texts =
        |body: &Value| body["output"].as_array().unwrap().iter().map(|item| item["type"].clone()).collect::<Vec<_>>();
    assert_eq!(texts(&data["response"]), texts(&body));
    assert_eq!(data["response"]["usage"], body["usage"]);
}

#[tokio::test]
async fn a_response_that_was_cut_is_incomplete_and_one_that_breaks_off_ends_with_an_error() {
    let (node, world) = one_version().await;
    let piece = json!({ "message": { "role": "assistant", "content": "Hel" }, "done_reason": "length" });
    node.next(Act::Say(vec![piece]));
    let body = ask(&world, "/v1/responses", json!({ "input": "hi" })).await.json();
    assert_eq!((&body["status"], &body["completed_at"]), (&json!("incomplete"), &Value::Null));
    assert_eq!(body["incomplete_details"], json!({ "reason": "max_output_tokens" }));
    node.next(Act::CutAfter(1));
    let answer = ask(&world, "/v1/responses", json!({ "input": "hi", "stream": true })).await;
    let (name, data) = events(&answer).pop().unwrap();
    assert_eq!(name, "error");
    assert!(data["message"].as_str().unwrap().contains("node n1 broke off"), "{data}");
}

#[tokio::test]
async fn all_that_was_said_comes_as_input() {
    let call =
        json!({ "type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{\"city\":\"Rome\"}" });
    let (path, body) = sent(
        "/v1/responses",
        json!({
            "instructions": "Be brief.", "max_output_tokens": 9, "truncation": "auto", "user": "u",
            "text": { "format": { "type": "json_schema", "name": "x", "schema": { "type": "object" } } },
            "tools": [{ "type": "function", "name": "weather", "parameters": { "type": "object" } }],
            "input": [
                { "role": "user", "content": [
                    { "type": "input_text", "text": "What is this?" },
                    { "type": "input_image", "image_url": "data:image/png;base64,aGk=" },
                ] },
                { "type": "reasoning", "summary": [], "encrypted_content": "hm" },
                call,
                { "type": "function_call_output", "call_id": "c1", "output": "sunny" },
                { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "Sunny." }] },
            ],
        }),
    )
    .await;
    let wanted = json!([
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": "What is this?", "images": ["aGk="] },
        { "role": "assistant", "content": "", "thinking": "hm",
            "tool_calls": [{ "id": "c1", "function": { "name": "weather", "arguments": { "city": "Rome" } } }] },
        { "role": "tool", "content": "sunny", "tool_name": "weather", "tool_call_id": "c1" },
        { "role": "assistant", "content": "Sunny." },
    ]);
    assert_eq!((path.as_str(), &body["messages"]), ("/api/chat", &wanted));
    assert_eq!((&body["options"], &body["format"]), (&json!({ "num_predict": 9 }), &json!({ "type": "object" })));
    assert_eq!(body["tools"][0]["function"]["name"], "weather");
    assert_eq!((body.get("user"), body.get("input"), body.get("text")), (None, None, None));
}

#[tokio::test]
async fn what_would_need_memory_or_other_backends_is_refused_by_name() {
    let (node, world) = one_version().await;
    let rows = [
        ("/v1/responses", json!({ "input": "hi", "previous_response_id": "resp_1" }), "previous_response_id:"),
        ("/v1/responses", json!({ "input": "hi", "conversation": { "id": "c" } }), "conversation:"),
        ("/v1/responses", json!({ "input": "hi", "background": true }), "background:"),
        ("/v1/responses", json!({ "input": "hi", "tools": [{ "type": "web_search" }] }), "tools[0]:"),
        ("/v1/responses", json!({ "input": "hi", "temperature": 3 }), "temperature: 3 is not a number from 0 to 2"),
        ("/v1/responses", json!({ "input": "hi", "truncation": "some" }), "truncation:"),
        ("/v1/responses", json!({ "input": [{ "type": "item_reference", "id": "x" }] }), "input[0]:"),
        ("/v1/responses", json!({}), "input is required"),
        ("/v1/completions", json!({ "prompt": ["a", "b"] }), "prompt:"),
        ("/v1/completions", json!({ "prompt": "a", "best_of": 3 }), "best_of:"),
        ("/v1/completions", json!({ "prompt": "a", "echo": true }), "echo:"),
        ("/v1/completions", json!({}), "prompt is required"),
        ("/v1/embeddings", json!({ "input": [[1, 2]] }), "input:"),
        ("/v1/embeddings", json!({ "input": [] }), "input:"),
        ("/v1/embeddings", json!({ "input": "a", "encoding_format": "hex" }), "encoding_format:"),
    ];
    for (path, asked, words) in rows {
        let answer = ask(&world, path, asked.clone()).await;
        assert_eq!(answer.status, 400, "{path} {asked}: {}", answer.text);
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with(words), "{path} {asked}: {message}");
    }
    assert_eq!(node.count(), 0);
}

#[tokio::test]
async fn completions_are_ollamas_generate() {
    let asked =
        json!({ "prompt": ["Hello"], "suffix": "!", "max_tokens": 5, "stop": "x", "keep_alive": "1h", "new": 1 });
    let (path, body) = sent("/v1/completions", asked).await;
    assert_eq!(path, "/api/generate");
    assert_eq!((&body["prompt"], &body["suffix"]), (&json!("Hello"), &json!("!")));
    assert_eq!(body["options"], json!({ "num_predict": 5, "stop": ["x"] }));
    assert_eq!((&body["keep_alive"], &body["new"]), (&json!("1h"), &json!(1)), "what is not OpenAI's passes");

    let (_node, world) = one_version().await;
    let body = ask(&world, "/v1/completions", json!({ "prompt": "hi" })).await.json();
    let choice = json!({ "index": 0, "text": "Hello from n1", "logprobs": null, "finish_reason": "stop" });
    assert_eq!((&body["object"], &body["choices"]), (&json!("text_completion"), &json!([choice])));
    let asked = json!({ "prompt": "hi", "stream": true, "stream_options": { "include_usage": true } });
    let events = ask(&world, "/v1/completions", asked).await.events();
    assert_eq!(events.last().unwrap(), "[DONE]");
    let events: Vec<Value> = events.iter().filter_map(|event| serde_json::from_str(event).ok()).collect();
    let text: String = events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert_eq!((text.as_str(), &events.last().unwrap()["usage"]["total_tokens"]), ("Hello from n1", &json!(18)));
}

#[tokio::test]
async fn embeddings_are_numbers_or_packed() {
    let (path, body) = sent("/v1/embeddings", json!({ "input": "a", "dimensions": 2 })).await;
    assert_eq!(path, "/api/embed");
    assert_eq!((&body["input"], &body["dimensions"], body.get("stream")), (&json!(["a"]), &json!(2), None));

    let (node, world) = one_version().await;
    let answer = r#"{"model":"x","embeddings":[[0.5,-1.0],[1,2]],"prompt_eval_count":3}"#;
    node.always(Act::Raw(answer.into()));
    let asked = json!({ "input": ["a", "b"] });
    let body = ask(&world, "/v1/embeddings", asked.clone()).await.json();
    assert_eq!(body["data"][0], json!({ "object": "embedding", "index": 0, "embedding": [0.5, -1.0] }));
    assert_eq!(body["usage"], json!({ "prompt_tokens": 3, "total_tokens": 3 }));
    assert_eq!(body["model"], "llama3.2:3b-v1.0.0");
    let mut asked = asked;
    asked["encoding_format"] = "base64".into();
    let body = ask(&world, "/v1/embeddings", asked).await.json();
    assert_eq!(body["data"][1]["embedding"], "AACAPwAAAEA=");
}

#[tokio::test]
async fn log_probabilities_come_in_openais_form() {
    let (node, world) = one_version().await;
    let logprobs = json!([{ "token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [] }]);
    let piece = json!({ "message": { "role": "assistant", "content": "Hi" }, "logprobs": logprobs });
    node.always(Act::Say(vec![piece, json!({ "message": { "role": "assistant", "content": "" } })]));
    let asked = json!({ "messages": [{ "role": "user", "content": "hi" }], "logprobs": true, "top_logprobs": 2, "stream": true });
    let events = ask(&world, "/v1/chat/completions", asked).await.events();
    let first: Value = serde_json::from_str(&events[0]).unwrap();
    assert_eq!(first["choices"][0]["logprobs"]["content"], logprobs);
    assert_eq!((&node.only_body()["logprobs"], &node.only_body()["top_logprobs"]), (&json!(true), &json!(2)));
}
