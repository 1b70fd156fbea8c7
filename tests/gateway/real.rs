//! The same through a real Ollama server: what the fake ones imitate.

use serde_json::{Value, json};

use crate::{
    parts::{Scratch, ollama::Ollama},
    support::{
        Answer, World,
        real::{SENTENCE, real, with_more_models},
    },
};

async fn loaded(world: &World, node: &Ollama) -> Value {
    let answer = world.http.get(node.url() + "/api/ps").send().await.unwrap().text().await.unwrap();
    serde_json::from_str::<Value>(&answer).unwrap()["models"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_node_answers_in_every_format_with_the_versions_settings() {
    let dir = Scratch::new();
    let (node, world) = real(&dir).await;
    let messages = json!([{ "role": "user", "content": "Who are you?" }]);

    let answer = world.post("/api/chat", &json!({ "model": "support-bot", "messages": messages })).await;
    assert_eq!((answer.status, answer.content().as_str()), (200, SENTENCE), "{}", answer.text);
    assert!(answer.lines().len() > 2 && answer.lines().iter().all(|line| line["model"] == "bot:1"), "{}", answer.text);

    let asked = json!({ "model": "support-bot", "prompt": "Who are you?", "stream": false, "keep_alive": 0,
        "options": { "num_ctx": 512 } });
    let answer = world.post("/api/generate", &asked).await.json();
    assert_eq!((&answer["model"], &answer["response"]), (&json!("bot:1"), &json!(SENTENCE)), "{answer}");
    let loaded = loaded(&world, &node).await;
    assert_eq!(loaded.as_array().map(Vec::len), Some(1), "keep_alive 0 unloads nothing: {loaded}");
    assert_eq!(loaded[0]["context_length"], 1024, "{loaded}");

    let mut asked = json!({ "model": "deployment/support-bot", "messages": messages });
    let answer = world.post("/v1/chat/completions", &asked).await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], SENTENCE, "{answer}");
    assert_eq!((&answer["model"], &answer["choices"][0]["finish_reason"]), (&json!("bot:1"), &json!("stop")));
    assert!(answer["usage"]["completion_tokens"].as_u64().is_some_and(|count| count > 2), "{answer}");

    asked["stream"] = true.into();
    let events = world.post("/v1/chat/completions", &asked).await.events();
    let pieces = events.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
    let said: String =
        pieces.filter_map(|piece| piece["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect();
    assert_eq!((said.as_str(), events.last().unwrap().as_str()), (SENTENCE, "[DONE]"));
    check_schema_and_refusal(&world, asked).await;
}

async fn check_schema_and_refusal(world: &World, mut asked: Value) {
    asked["stream"] = false.into();
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
    asked["response_format"] = json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": schema } });
    let answer = world.post("/v1/chat/completions", &asked).await.json();
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(content).unwrap()["n"].is_number(), "{answer}");

    asked["tools"] = json!([{ "type": "function", "function": { "name": "weather", "description": "",
        "parameters": { "type": "object", "properties": {} } } }]);
    for stream in [true, false] {
        asked["stream"] = stream.into();
        let refused = world.post("/v1/chat/completions", &asked).await;
        let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!((refused.status, message.as_str()), (400, "bot:1 does not support tools"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_with_different_windows_who_alternate_cause_no_reload() {
    let dir = Scratch::new();
    let (mut node, world) = real(&dir).await;
    let ask = async |window: Option<u64>| {
        let options = window.map_or(json!({}), |window| json!({ "num_ctx": window }));
        let asked = json!({ "model": "support-bot", "prompt": "Who are you?", "stream": false, "options": options });
        assert_eq!(world.post("/api/generate", &asked).await.status, 200);
    };
    ask(None).await;
    ask(Some(2048)).await;
    let starts = |node: &mut Ollama| node.process().log().matches("starting runner").count();
    let before = starts(&mut node);
    assert!(before >= 1, "the node's log says when a runner starts");
    for window in [None, Some(512), Some(2048), Some(1024), None, Some(2048)] {
        ask(window).await;
    }
    assert_eq!(starts(&mut node), before);
    assert_eq!(loaded(&world, &node).await[0]["context_length"], 2048);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_says_nothing_is_answered_in_one_piece_as_by_the_node_itself() {
    let dir = Scratch::new();
    let (node, world) = with_more_models(&dir).await;
    for (path, asked) in [
        ("/api/chat", json!({ "model": "bot:1" })),
        ("/api/chat", json!({ "model": "bot:1", "messages": [], "stream": true })),
        ("/api/generate", json!({ "model": "bot:1" })),
        ("/api/generate", json!({ "model": "bot:1", "prompt": "", "stream": true })),
    ] {
        let direct = world.http.post(node.url() + path).body(asked.to_string()).send().await.unwrap();
        let (direct, ours) = (Answer::read(direct).await, world.post(path, &asked).await);
        assert_eq!(ours.header("content-type"), direct.header("content-type"), "{path} {asked}");
        let without_time = |answer: &Answer| {
            let mut answer = answer.json();
            answer["created_at"] = Value::Null;
            answer.to_string()
        };
        assert_eq!(without_time(&ours), without_time(&direct), "{path} {asked}");
        assert_eq!(ours.text.ends_with('\n'), direct.text.ends_with('\n'), "{path} {asked}");
    }
}
