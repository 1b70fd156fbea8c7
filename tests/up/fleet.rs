//! From nothing to an answer, and what is left of it at the next start.

use serde_json::{Value, json};

use crate::instance::{SOON, Up};
use crate::support::gguf::TinyLlama;
use crate::support::models::publish;
use crate::support::ollama::Ollama;
use crate::support::registry::Registry;
use crate::support::{Scratch, eventually, http_client};

const SENTENCE: &str = "All is well on this one machine.";

#[tokio::test]
async fn named_nodes_get_a_model_through_the_mirror_and_answer_by_the_gateway() {
    let scratch = Scratch::new();
    let (registry, first, second) = (scratch.join("registry"), scratch.join("first"), scratch.join("second"));
    let (registry, mut first, second) =
        tokio::join!(Registry::start(&registry), Ollama::start("first", &first), Ollama::start("second", &second));
    publish(&registry, &first, &[("shop/bot", "1", TinyLlama::new(1).says(SENTENCE))]).await;
    let upstream = format!("=http://{}", registry.address());
    let nodes = [format!("first={}", first.url()), format!("second={}", second.url())];
    let both = ["--upstream", &upstream, "--node", &nodes[0], "--node", &nodes[1]];
    let mut up = Up::start(scratch.path(), &both).await;
    up.eventually_logs("first  Ollama").await;

    up.apply("{apiVersion: drover.dev/v1alpha1, kind: ModelPull, metadata: {name: bot}, spec: {model: 'shop/bot:1'}}")
        .await;
    up.kubectl(&["wait", "--for=condition=Ready", "modelpull/bot", "--timeout=60s"]).await;
    assert_eq!(up.field("modelpull/bot", ".status.readyNodes").await, "2");
    says(&up, SENTENCE).await;
    let metrics = http_client().get(format!("{}/metrics", up.url("health"))).send().await.expect("metrics");
    let metrics = metrics.text().await.expect("text");
    let fetched = metrics.lines().find_map(|line| line.strip_prefix("drover_mirror_in_bytes_total")).expect("counted");
    assert!(fetched.trim().parse::<f64>().expect("a number") > 0.0, "through the mirror: {fetched}");

    // Edits of other fields, and nodes that a person made, outlast a start without them; named ones don't.
    up.kubectl(&[
        "patch",
        "ollamanode/first",
        "--type=merge",
        "-p",
        r#"{"spec": {"weight": 7, "url": "http://127.0.0.1:9"}}"#,
    ])
    .await;
    up.apply(&format!(
        "{{apiVersion: drover.dev/v1alpha1, kind: OllamaNode, metadata: {{name: own}}, spec: {{url: '{}'}}}}",
        second.url()
    ))
    .await;
    assert!(up.process().stop_gracefully(SOON).await.success());
    up.restart(&["--upstream", &upstream, "--node", &nodes[0]]).await;
    assert!(!up.has("ollamanode/second").await && up.has("ollamanode/own").await);
    assert_eq!(up.field("ollamanode/first", ".spec.url").await, first.url());
    assert_eq!(up.field("ollamanode/first", ".spec.weight").await, "7");

    // Named by a flag for once, a person's own node stays theirs. Where there is one, none is found by itself.
    up.restart(&["--node", &format!("own={}", second.url())]).await;
    assert!(up.has("ollamanode/own").await && !up.has("ollamanode/first").await);
    first.kill9();
    up.restart(&[]).await;
    assert_eq!(up.kubectl(&["get", "ollamanode", "-o", "name"]).await, "ollamanode.drover.dev/own\n");
    says(&up, SENTENCE).await;
}

/// Asks by Ollama's API and by OpenAI's, as soon as a node is known to have the model.
async fn says(up: &Up, sentence: &str) {
    let (http, message) = (http_client(), json!([{ "role": "user", "content": "Is all well?" }]));
    let native = json!({ "model": "shop/bot:1", "messages": message, "stream": false });
    let open = json!({ "model": "shop/bot:1", "messages": message });
    let cases =
        [("/api/chat", native, "/message/content"), ("/v1/chat/completions", open, "/choices/0/message/content")];
    for (path, body, pointer) in cases {
        eventually(path, SOON, async || {
            let answer = http.post(format!("{}{path}", up.url("gateway"))).json(&body).send().await;
            let answer: Value =
                answer.map_err(|error| error.to_string())?.json().await.map_err(|error| error.to_string())?;
            if answer.pointer(pointer).and_then(Value::as_str) == Some(sentence) {
                Ok(())
            } else {
                Err(answer.to_string())
            }
        })
        .await;
    }
}
