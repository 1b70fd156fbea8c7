//! Official clients over a real node, unchanged but for the base URL, and Ollama's own answers byte by byte.

use std::process::Stdio;

use regex::Regex;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    parts::{Scratch, checkout, ollama::Ollama, stack::program},
    support::{
        World, alias,
        real::{SENTENCE, real, with_more_models},
    },
};

/// Runs a program to its end; what it printed.
async fn run(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// One of the scripts in `clients/`.
pub async fn python(script: &str, arguments: &[&str]) {
    let script = checkout("tests/gateway/clients").join(script);
    let mut command = Command::new(program("python"));
    // Nothing but loopback, and no trace of the run in the sources.
    command.arg("-B").arg(script).args(arguments).env("NO_PROXY", "*").env("LANGSMITH_TRACING", "false");
    run(command).await;
}

/// Ollama's own command line, with the gateway for a server.
pub async fn ollama(dir: &Scratch, url: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program("ollama"));
    command.args(arguments).env("OLLAMA_HOST", url).env("HOME", dir.path()).env("NO_PROXY", "*");
    run(command).await
}

async fn command_line(dir: &Scratch, url: &str) {
    assert_eq!(ollama(dir, url, &["run", "support-bot", "Who are you?"]).await.trim(), SENTENCE);
    let listed = ollama(dir, url, &["ls"]).await;
    assert!(listed.contains("support-bot") && listed.contains("tools:latest"), "{listed}");
    assert!(listed.contains(" KB") && !listed.contains("drover-"), "{listed}");
    let shown = ollama(dir, url, &["show", "support-bot"]).await;
    assert!(shown.contains("llama") && shown.contains("completion"), "{shown}");
    let modelfile = ollama(dir, url, &["show", "--modelfile", "support-bot"]).await;
    assert!(modelfile.contains("bot:1") && !modelfile.contains("drover-"), "{modelfile}");
    let running = ollama(dir, url, &["ps"]).await;
    assert!(running.contains("support-bot:v1.0.0") && running.contains("100% CPU"), "{running}");
}

#[tokio::test(flavor = "multi_thread")]
async fn official_clients_and_ollamas_command_line_work_unchanged() {
    let dir = Scratch::new();
    let (_node, world) = with_more_models(&dir).await;
    let url = [world.url.as_str()];
    tokio::join!(
        python("openai_client.py", &url),
        python("anthropic_client.py", &url),
        python("ollama_client.py", &url),
        command_line(&dir, &world.url),
    );
}

/// An answer without what differs from run to run.
async fn answer(world: &World, base: &str, path: &str, body: &Value) -> (u16, String, String) {
    let request = world.http.post(format!("{base}{path}")).body(body.to_string());
    let response = request.header("content-type", "application/json").send().await.unwrap();
    let (status, kind) = (response.status().as_u16(), response.headers()["content-type"].to_str().unwrap());
    let kind = kind.split(';').next().unwrap().to_owned();
    let times = Regex::new(r#""created_at":"[^"]*"|"(total|load|prompt_eval|eval)_duration":\d+"#).unwrap();
    (status, kind, times.replace_all(&response.text().await.unwrap(), "T").into_owned())
}

/// What differs between the node's answer and the gateway's.
async fn compare(node: &Ollama, world: &World, path: &str, mut asked: Value) -> Option<String> {
    let tag = "bot:1";
    asked["model"] = alias("v1.0.0").into();
    let (status, kind, text) = answer(world, &node.url(), path, &asked).await;
    // Some errors have the full name.
    let text = text.replace(&format!("registry.ollama.ai/{}", alias("v1.0.0")), tag).replace(&alias("v1.0.0"), tag);
    asked["model"] = "support-bot".into();
    let through = answer(world, &world.url, path, &asked).await;
    let direct = (status, kind, text);
    (through != direct).then(|| format!("{path} {asked}:\n  {through:?}\n  {direct:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn ollamas_answers_are_the_same_bytes_through_the_gateway() {
    let dir = Scratch::new();
    let (node, world) = real(&dir).await;
    let options = json!({ "num_ctx": 1024, "temperature": 0, "seed": 7 });
    let messages = json!([{ "role": "user", "content": "Who <are> you? \u{fc}" }]);
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
    let tool = json!({ "type": "function", "function": { "name": "f", "description": "", "parameters": { "type": "object", "properties": {} } } });
    let image = json!([{ "role": "user", "content": "What?", "images": ["iVBORw0KGgo="] }]);
    let more = [
        json!({}),
        json!({ "logprobs": true, "top_logprobs": 2 }),
        json!({ "top_logprobs": 99 }),
        json!({ "format": schema }),
        json!({ "tools": [tool] }),
        json!({ "think": true }),
        json!({ "messages": image }),
        json!({ "messages": "none" }),
    ];
    let mut rows = vec![
        // Streamed, Ollama answers this without a line end.
        ("/api/chat", json!({ "stream": false, "messages": [] })),
        ("/api/generate", json!({ "stream": false, "prompt": "" })),
        ("/api/embed", json!({ "input": ["a", "b"] })),
        ("/api/embeddings", json!({ "prompt": "a" })),
    ];
    let generate = [
        json!({}),
        json!({ "system": "Be brief.", "template": "{{ .System }} {{ .Prompt }}" }),
        json!({ "raw": true }),
        json!({ "raw": true, "template": "{{ .Prompt }}" }),
        json!({ "suffix": "end" }),
        json!({ "context": [1, 2, 3] }),
        json!({ "format": "json" }),
        json!({ "format": schema }),
        json!({ "images": ["iVBORw0KGgo="] }),
        json!({ "images": ["not base64"] }),
        json!({ "think": true }),
        json!({ "logprobs": true }),
        json!({ "prompt": 7 }),
        json!({ "options": { "stop": ["real"], "seed": 7, "temperature": 0, "num_ctx": 1024 } }),
        json!({ "options": { "num_predict": 2, "num_ctx": 1024 } }),
        json!({ "unknown": { "field": 1 } }),
    ];
    for more in [json!({ "input": "" }), json!({ "input": [] }), json!({ "input": 7 }), json!({ "dimensions": 8 })] {
        rows.push(("/api/embed", merged(json!({ "input": "a" }), &more)));
    }
    rows.push(("/api/embeddings", json!({ "prompt": "" })));
    for stream in [true, false] {
        rows.extend(
            generate.iter().map(|more| ("/api/generate", merged(json!({ "stream": stream, "prompt": "Who?" }), more))),
        );
        rows.extend(
            more.iter().map(|more| ("/api/chat", merged(json!({ "stream": stream, "messages": messages }), more))),
        );
    }
    let common = json!({ "options": options, "keep_alive": "10m" });
    let mut differences = Vec::new();
    for (path, asked) in rows {
        differences.extend(compare(&node, &world, path, merged(common.clone(), &asked)).await);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    shown(&node, &world).await;
    mistakes(&node, &world).await;
    cut_prompts(&world).await;
}

fn merged(mut object: Value, more: &Value) -> Value {
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

/// What a node shows of a model, in whichever order it writes down the parameters.
async fn shown(node: &Ollama, world: &World) {
    for verbose in [false, true] {
        let sorted = |(status, _, text): (u16, String, String)| {
            let mut shown: Value = serde_json::from_str(&text.replace(&alias("v1.0.0"), "bot:1")).unwrap();
            let lists = ["modelfile", "parameters"].map(|field| {
                let text = shown[field].take();
                let mut lines: Vec<String> = text.as_str().unwrap().lines().map(str::to_owned).collect();
                lines.sort();
                lines
            });
            (status, shown, lists)
        };
        let asked = |model: &str| json!({ "model": model, "verbose": verbose });
        let through = answer(world, &world.url, "/api/show", &asked("support-bot")).await;
        let direct = answer(world, &node.url(), "/api/show", &asked(&alias("v1.0.0"))).await;
        assert_eq!(sorted(through), sorted(direct));
    }
}

/// What a caller got wrong and Ollama calls a fault of its own: the same words, as the caller's mistake.
async fn mistakes(node: &Ollama, world: &World) {
    for more in [
        json!({ "format": "yaml" }),
        json!({ "format": 7 }),
        json!({ "format": { "type": "nonsense" } }),
        json!({ "format": { "$ref": "#/definitions/none" } }),
        json!({ "template": "{{ .Prompt" }),
    ] {
        let mut asked =
            merged(json!({ "model": "support-bot", "prompt": "Who?", "options": { "num_ctx": 1024 } }), &more);
        let (through, _, told) = answer(world, &world.url, "/api/generate", &asked).await;
        asked["model"] = "bot:1".into();
        let (direct, _, said) = answer(world, &node.url(), "/api/generate", &asked).await;
        assert_eq!((through, direct, told), (400, 500, said), "{more}");
    }
}

/// A prompt that doesn't fit into the window: it is cut as Ollama cuts it, and the header says so.
async fn cut_prompts(world: &World) {
    let long = "x".repeat(3000);
    let two = json!([{ "role": "user", "content": long }, { "role": "user", "content": "Who are you?" }]);
    for (path, mut asked) in [
        ("/api/generate", json!({ "prompt": long })),
        ("/api/chat", json!({ "messages": two })),
        ("/api/embed", json!({ "input": long })),
        ("/v1/chat/completions", json!({ "messages": two })),
    ] {
        asked["model"] = "support-bot".into();
        let answer = world.post(path, &asked).await;
        assert_eq!((answer.status, answer.header("x-drover-truncated")), (200, "true"), "{path}: {}", answer.text);
        asked["truncate"] = false.into();
        let answer = world.post(path, &asked).await;
        assert_eq!((answer.status, answer.header("x-drover-truncated")), (400, ""), "{path}: {}", answer.text);
        assert!(answer.text.contains("exceeds the context length"), "{path}: {}", answer.text);
    }
}
