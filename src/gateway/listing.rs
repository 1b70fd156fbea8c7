//! The models that people can call, as the two APIs list them: pure.

use serde_json::{Value, json};

use super::resolve::{Found, callable};
use crate::routing_table::{Namespace, Target};

/// As `/api/tags` lists them. What the table doesn't know (sizes) is left out.
pub fn tags(namespace: &Namespace) -> Value {
    let entries = callable(namespace).map(|(name, target)| {
        let details =
            json!({ "format": "gguf", "family": "", "families": [], "parameter_size": "", "quantization_level": "" });
        json!({ "name": name, "model": name, "digest": digest(target), "details": details })
    });
    json!({ "models": entries.collect::<Vec<_>>() })
}

/// The digest as Ollama writes it here, without its algorithm. For a tag that differs between nodes, one of them:
/// `ollama list` can't do without.
fn digest(target: &Target) -> &str {
    let any = target.holders.first().map_or("", |holder| holder.digest.as_str());
    let digest = if target.digest.is_empty() { any } else { &target.digest };
    digest.trim_start_matches("sha256:")
}

/// As `/v1/models` lists them.
pub fn models(namespace: &Namespace) -> Value {
    let since = |name: &str| namespace.deployments.get(name).map_or(0, |d| d.since.as_second());
    let entries = callable(namespace).map(|(name, _)| model(name, since(name)));
    json!({ "object": "list", "data": entries.collect::<Vec<_>>() })
}

/// One model as OpenAI describes it; `created` in seconds since 1970.
pub fn model(name: &str, created: i64) -> Value {
    json!({ "id": name, "object": "model", "created": created, "owned_by": "drover" })
}

/// Since when a name stands for what it does, in seconds since 1970; 0 where nobody knows.
pub fn created(found: Found<'_>) -> i64 {
    match found {
        Found::Deployment(_, deployment) => deployment.since.as_second(),
        Found::Tag(_) => 0,
    }
}
