//! Models of providers: a real Ollama server by its `/v1` (OpenAI's API and Anthropic's), and a fake that fails in every way.

use serde_json::{Value, json};

use crate::{
    parts::{Scratch, ollama::Ollama},
    support::{
        Answer, World,
        provider::{models, offering, provider},
        real::{SENTENCE, with_more_models},
    },
};

/// The models of the real server.
const MODELS: [&str; 4] = ["bot:1", "tools:latest", "thinker:latest", "endless:latest"];

/// A gateway whose one provider is this server, by the API of this kind.
async fn by(kind: &str, server: &Ollama) -> World {
    let base = if kind == "OpenAI" { format!("{}/v1", server.url()) } else { server.url() };
    World::start(offering(provider(kind, &base, models(&MODELS)))).await
}

fn said(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.content()
}

/// A conversation in Ollama's format, streamed and not.
async fn chats(world: &World) {
    let asked = |stream: bool| {
        json!({
            "model": "provider/far/bot:1", "stream": stream,
            "messages": [{ "role": "user", "content": "Who are you?" }],
            "options": { "temperature": 0, "num_ctx": 2048, "num_predict": 100 },
        })
    };
    let whole = world.post("/api/chat", &asked(false)).await;
    assert_eq!(said(&whole), SENTENCE);
    let last = whole.json();
    assert_eq!((&last["model"], &last["done_reason"]), (&json!("provider/far/bot:1"), &json!("stop")));
    assert!(last["prompt_eval_count"].as_u64() > Some(0) && last["eval_count"].as_u64() > Some(0), "{last}");
    assert_eq!(whole.header("x-drover-node"), "provider/far");
    assert_eq!(whole.header("x-drover-dropped-parameters"), "num_ctx");

    let streamed = world.post("/api/chat", &asked(true)).await;
    assert_eq!(said(&streamed), SENTENCE);
    let lines = streamed.lines();
    assert!(lines.len() > 3, "{}", streamed.text);
    let end = lines.last().unwrap();
    assert_eq!((&end["done"], &end["eval_count"]), (&json!(true), &last["eval_count"]), "{end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_model_answers_like_a_nodes_own() {
    let dir = Scratch::new();
    let (server, _) = with_more_models(&dir).await;
    for kind in ["OpenAI", "Anthropic"] {
        let world = by(kind, &server).await;
        chats(&world).await;
    }
}
