//! A real Ollama server behind a gateway.

use std::{path::Path, sync::Arc};

use drover::{
    domain::node::NodeModel,
    ollama,
    ports::NodeApi,
    routing_table::{Holder, Node, Target},
};
use serde_json::json;

use super::{World, alias, deployment, table};
use crate::parts::{Scratch, gguf::TinyLlama, ollama::Ollama};

/// What `support-bot` says.
pub const SENTENCE: &str = "Hello from a real node.";

/// Models whose templates know of tools, or of thoughts.
const TOOLS: &str = "{{ range .Messages }}{{ .Role }}: {{ .Content }}{{ if .ToolCalls }}{{ range .ToolCalls }}{\"name\": \
     \"{{ .Function.Name }}\", \"arguments\": {{ .Function.Arguments }}}{{ end }}{{ end }}\n{{ end }}{{ .Tools }}";
const THOUGHTS: &str = "{{ range .Messages }}{{ .Role }}: {{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}\
     {{ .Content }}\n{{ end }}";

/// A node with version v1.0.0 of `support-bot`, made from `bot:1`.
pub async fn real(dir: &Scratch) -> (Ollama, World) {
    let node = Ollama::start("n1", dir.path()).await;
    create(&node, dir.path(), "bot:1", TinyLlama::new(1).says(SENTENCE), "").await;
    let world = serve(&node, &[]).await;
    (node, world)
}

/// The same with models that call a tool, think, or never end.
pub async fn with_more_models(dir: &Scratch) -> (Ollama, World) {
    let node = Ollama::start("n1", dir.path()).await;
    let call = r#"{"name": "weather", "arguments": {"city": "Rome"}}"#;
    let endless = TinyLlama::new(4).says("on and").endlessly();
    create(&node, dir.path(), "bot:1", TinyLlama::new(1).says(SENTENCE), "").await;
    create(&node, dir.path(), "tools:latest", TinyLlama::new(2).says(call), TOOLS).await;
    create(&node, dir.path(), "thinker:latest", TinyLlama::new(3).says("<think> Hm. </think> Yes."), THOUGHTS).await;
    create(&node, dir.path(), "endless:latest", endless, "").await;
    let world = serve(&node, &["bot:1", "tools:latest", "thinker:latest", "endless:latest"]).await;
    (node, world)
}

async fn create(node: &Ollama, dir: &Path, name: &str, model: TinyLlama, template: &str) {
    let gguf = dir.join("model.gguf");
    model.write(&gguf).unwrap();
    let more = if template.is_empty() { json!({}) } else { json!({ "template": template }) };
    node.create_with(name, &gguf, more).await;
}

/// A gateway that serves `support-bot` and these models from the node.
async fn serve(node: &Ollama, tags: &[&str]) -> World {
    let world = World::start(table(None, &[])).await;
    let client = ollama::Ollama::new().unwrap();
    client.copy(&node.url(), "bot:1", &alias("v1.0.0")).await.unwrap();
    let entry = Arc::new(Node {
        id: "default/n1".into(),
        name: "n1".into(),
        url: node.url(),
        weight: 100,
        max_concurrent_requests: 4,
        keep_alive: Some("10m".into()),
        context_length: None,
        max_context_length: None,
    });
    let mut models = client.probe(&node.url()).await.unwrap().models;
    for model in &mut models {
        model.capabilities = client.details(&node.url(), &model.name).await.unwrap().capabilities;
    }
    let target = |model: &NodeModel| Target {
        tag: model.name.clone(),
        digest: model.digest.clone(),
        model: model.name.clone(),
        details: Some(Arc::new(model.clone())),
        holders: vec![Holder { node: entry.clone(), loaded: false, digest: model.digest.clone() }],
        ..Target::default()
    };
    let find = |name: &str| target(models.iter().find(|model| model.name == name).unwrap());
    let version = Target {
        model: alias("v1.0.0"),
        version: Some("v1.0.0".into()),
        parameters: [("num_ctx".to_owned(), json!(1024)), ("temperature".to_owned(), json!(0))].into(),
        ..find("bot:1")
    };
    let tags: Vec<Target> = tags.iter().map(|name| find(name)).collect();
    world.table.store(table(Some(deployment(version, None)), &tags).into());
    world
}
