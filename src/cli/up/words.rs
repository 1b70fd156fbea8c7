//! What `drover up` says on stdout.

use std::{path::Path, sync::Arc, time::Duration};

use kube::ResourceExt;

use super::ready::Ready;
use crate::{
    api::{HasConditions, OllamaNode},
    domain::{
        conditions::{ConditionStatus, READY},
        url,
    },
};

const MODELS_SHOWN: usize = 6;
/// A small model, on every node.
const PULL: &str = r#"{"apiVersion": "drover.dev/v1alpha1", "kind": "ModelPull", "metadata": {"name": "small"}, "spec": {"model": "llama3.2:1b"}}"#;

/// Where everything is.
pub fn where_it_is(ready: &Ready, dir: &Path, took: Duration) -> String {
    format!(
        "Drover {version} is ready after {took} ms, with its state in {dir}\n  \
         API      {api}\n  gateway  {gateway}\n  mirror   {mirror}\n  health   {health}\n\n",
        version = env!("CARGO_PKG_VERSION"),
        took = took.as_millis(),
        dir = dir.display(),
        api = ready.api,
        gateway = ready.gateway,
        mirror = ready.mirror,
        health = ready.health,
    )
}

/// A line for each node, as it is.
pub fn nodes(nodes: &[Arc<OllamaNode>]) -> String {
    match nodes {
        [] => "No nodes yet: name Ollama servers with --node NAME=URL, or apply OllamaNode objects\n".into(),
        nodes => nodes.iter().map(|node| format!("{}  {}\n", node.name_any(), node_words(node))).collect(),
    }
}

fn node_words(node: &OllamaNode) -> String {
    let ready = node.conditions().iter().find(|condition| condition.type_ == READY);
    let Some(status) = node.status.as_ref().filter(|_| ready.is_some_and(|r| r.status == ConditionStatus::True)) else {
        let why = ready.map_or("it was not looked at yet", |ready| ready.message.as_str());
        return format!("not there yet; it is looked at again ({why})");
    };
    let names: Vec<&str> = status.models.iter().map(|model| model.name.as_str()).collect();
    let models = match names.len() {
        0 => "no models yet".into(),
        count if count <= MODELS_SHOWN => names.join(", "),
        count => format!("{} and {} more", names[..MODELS_SHOWN].join(", "), count - MODELS_SHOWN),
    };
    format!("Ollama {} at {}: {models}", status.version, node.spec.url)
}

/// What nodes elsewhere need that the mirror doesn't have.
pub fn advice_for_far_nodes(nodes: &[Arc<OllamaNode>], mirror: &str) -> Option<String> {
    let has_own = |node: &OllamaNode| node.spec.mirror.as_ref().is_some_and(|own| own.disabled || own.url.is_some());
    let is_far = |node: &&Arc<OllamaNode>| !url::is_loopback(&node.spec.url) && !has_own(node);
    let far: Vec<String> = nodes.iter().filter(is_far).map(|node| node.name_any()).collect();
    (url::is_loopback(mirror) && !far.is_empty()).then(|| {
        format!(
            "{} can't reach the mirror at {mirror} and will pull from registries directly: --listen 0.0.0.0 and \
             --mirror-advertise http://THIS-MACHINE:PORT change that\n",
            far.join(", ")
        )
    })
}

/// Commands that work when they are pasted.
pub fn to_try(ready: &Ready, nodes: &[Arc<OllamaNode>]) -> String {
    let models = nodes.iter().filter_map(|node| node.status.as_ref()).flat_map(|status| &status.models);
    let model = models.map(|model| model.name.as_str()).next();
    let ask = match model {
        Some(model) => format!(
            "curl {}/v1/chat/completions -d '{{\"model\": \"{model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'",
            ready.gateway
        ),
        None => format!("curl {}/v1/models", ready.gateway),
    };
    format!(
        "\nTo try, in another terminal:\n  export KUBECONFIG={kubeconfig}\n  \
         kubectl get drover\n  echo '{PULL}' | kubectl apply -f -\n  {ask}\n",
        kubeconfig = quoted(&ready.kubeconfig.display().to_string()),
    )
}

/// A word of a command line for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
