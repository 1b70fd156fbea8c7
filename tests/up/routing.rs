//! Default models on one machine: by settings, and by the command line while it runs.

use std::process::Command;

use serde_json::json;

use crate::instance::{SOON, Up, text};
use crate::support::{Scratch, drover::program, eventually, gguf::TinyLlama, http_client, ollama::Ollama};

/// Asks by a name until this model answers.
async fn until_answered(up: &Up, name: &str, model: &str) {
    let asked = json!({ "model": name, "messages": [{ "role": "user", "content": "?" }], "stream": false });
    eventually(&format!("{model} answers for {name}"), SOON, async || {
        let answer = http_client().post(format!("{}/api/chat", up.url("gateway"))).json(&asked).send().await;
        let answer = answer.expect("the gateway answers");
        let answered = answer.headers().get("x-drover-model").is_some_and(|answered| answered == model);
        if answered { Ok(()) } else { Err(answer.text().await.unwrap_or_default()) }
    })
    .await;
}

/// `drover catalog set-default`, which finds the instance by its folder.
fn set_default(scratch: &Scratch, arguments: &[&str]) -> String {
    let mut command = Command::new(program());
    command.args(["catalog", "set-default"]).args(arguments).env("DROVER_DATA_DIR", scratch.join("data"));
    let output = command.env("HOME", scratch.path()).env_remove("KUBECONFIG").output().expect("it runs");
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test]
async fn a_default_model_takes_effect_by_a_flag_the_environment_and_the_command_line() {
    let scratch = Scratch::new();
    let node = Ollama::start("node", &scratch.join("node")).await;
    for (seed, name) in [(1, "one:1"), (2, "two:1")] {
        let gguf = scratch.join(name);
        TinyLlama::new(seed).write(&gguf).expect("a model");
        node.create(name, &gguf).await;
    }
    let named = format!("node={}", node.url());
    let flags = ["--node", &named, "--model-default", "fast=two:1"];
    let mut up = Up::start_with(scratch.path(), &flags, &[("DROVER_MODEL_DEFAULT", "fast=one:1")]).await;
    until_answered(&up, "auto:fast", "two:1").await;
    // The environment, once no flag says another one.
    up.restart(&flags[..2]).await;
    until_answered(&up, "auto:fast", "one:1").await;
    for model in ["two:1", "one:1"] {
        let told = set_default(&scratch, &["code", model]);
        assert_eq!(told, format!("auto:code stands for {model}\n"));
        until_answered(&up, "auto:code", model).await;
    }
    // What was set while it ran outlasts a start, and settings hold beside it.
    up.restart(&["--node", &named, "--model-default", "fast=two:1"]).await;
    until_answered(&up, "auto:code", "one:1").await;
    until_answered(&up, "auto:fast", "two:1").await;
}
