//! The models that a caller can call, as the APIs list them: pure.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    callable::{Callable, callable},
    callers::Caller,
    resolve::Found,
};
use crate::{
    domain::node::NodeModel,
    routing_table::{Namespace, Target},
};

/// As `/api/tags` lists them. When a tag changed last, the table doesn't know: the zero of Ollama's clock stands there,
/// which its command line shows as «Never». A name that stands for a model is listed with what would answer first now, and
/// its `details` say so.
pub fn tags(namespace: &Namespace, caller: &Caller) -> Value {
    let entries = callable(namespace, caller).map(|Callable { name, found, target }| {
        let since = match found {
            Found::Deployment(_, deployment) => deployment.since.to_string(),
            Found::Tag(_) | Found::Routed(_) => "0001-01-01T00:00:00Z".into(),
        };
        let known = target.details.as_deref();
        let mut entry = json!({
            "name": name, "model": name, "modified_at": since, "size": known.map_or(0, |model| model.size_bytes),
            "digest": digest(target), "details": details(known),
        });
        if let Some(kind) = found.kind() {
            entry["details"]["kind"] = kind.into();
            entry["details"]["parent_model"] = target.tag.as_str().into();
        } else if let Some(offer) = &target.offer {
            // As Ollama lists what it asks others for.
            entry["remote_model"] = target.model.as_str().into();
            entry["remote_host"] = offer.endpoint.url.as_str().into();
        }
        entry
    });
    json!({ "models": entries.collect::<Vec<_>>() })
}

/// The `details` of a model as Ollama lists them.
pub fn details(known: Option<&NodeModel>) -> Value {
    let text = |field: fn(&NodeModel) -> &String| known.map(field).cloned().unwrap_or_default();
    let family = text(|model| &model.family);
    let families: Vec<&String> = Some(&family).filter(|family| !family.is_empty()).into_iter().collect();
    json!({
        "parent_model": "", "format": "gguf", "family": family, "families": families,
        "parameter_size": text(|model| &model.parameter_size),
        "quantization_level": text(|model| &model.quantization),
    })
}

/// The digest as Ollama writes it here, without its algorithm. `ollama list` can't do without: for a tag that differs
/// between nodes it is one of them, for a provider's model that of its name.
fn digest(target: &Target) -> String {
    if target.offer.is_some() {
        let hash = Sha256::digest(&target.tag);
        return hash.iter().map(|byte| format!("{byte:02x}")).collect();
    }
    let any = target.holders.first().map_or("", |holder| holder.digest.as_str());
    let digest = if target.digest.is_empty() { any } else { &target.digest };
    digest.trim_start_matches("sha256:").to_owned()
}

/// What `/api/show` tells of a provider's model: what its object says.
pub fn offered(target: &Target) -> Value {
    let known = target.details.as_deref();
    let context = target.context_length().map(|length| ("provider.context_length".to_owned(), length.into()));
    let architecture = ("general.architecture".to_owned(), Value::from("provider"));
    let url = target.offer.as_ref().map(|offer| offer.endpoint.url.as_str());
    let model_info: Map<String, Value> = [architecture].into_iter().chain(context).collect();
    json!({
        "modelfile": "", "template": "", "details": details(known), "remote_model": target.model, "remote_host": url,
        "model_info": model_info,
        "capabilities": known.map_or(&[][..], |model| &model.capabilities),
    })
}

/// As `/v1/models` lists them to callers of OpenAI's API.
pub fn models(namespace: &Namespace, caller: &Caller) -> Value {
    let entries = callable(namespace, caller).map(|callable| model(&callable.name, callable.found));
    json!({ "object": "list", "data": entries.collect::<Vec<_>>() })
}

/// One model as OpenAI describes it; who owns it tells a chain, a profile or a worker from a model.
pub fn model(name: &str, found: Found<'_>) -> Value {
    let owner = match found {
        Found::Deployment(..) | Found::Tag(_) => "drover".into(),
        Found::Routed(routed) => format!("drover/{}", routed.named().0),
    };
    json!({ "id": name, "object": "model", "created": created(found), "owned_by": owner })
}

/// As `/v1/models` lists them to callers of Anthropic's API: they send the header `anthropic-version`.
pub fn anthropic_models(namespace: &Namespace, caller: &Caller) -> Value {
    let listed = callable(namespace, caller);
    let models: Vec<Value> = listed.map(|callable| anthropic_model(&callable.name, callable.found)).collect();
    let id = |model: Option<&Value>| model.map_or(Value::Null, |model| model["id"].clone());
    let (first, last) = (id(models.first()), id(models.last()));
    json!({ "data": models, "has_more": false, "first_id": first, "last_id": last })
}

/// One model as Anthropic describes it.
pub fn anthropic_model(name: &str, found: Found<'_>) -> Value {
    let created = Timestamp::from_second(created(found)).unwrap_or_default().to_string();
    json!({ "type": "model", "id": name, "display_name": name, "created_at": created })
}

/// Since when a name stands for what it does, in seconds since 1970; 0 where nobody knows.
fn created(found: Found<'_>) -> i64 {
    match found {
        Found::Deployment(_, deployment) => deployment.since.as_second(),
        Found::Tag(_) | Found::Routed(_) => 0,
    }
}
