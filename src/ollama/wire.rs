//! Ollama's JSON, as far as Drover reads it.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    domain::node::{NodeModel, Probe},
    ports::ModelDetails,
};

#[derive(Deserialize)]
pub struct Fault {
    pub error: String,
}

#[derive(Deserialize)]
pub struct Version {
    version: String,
}

#[derive(Deserialize)]
pub struct Tags {
    models: Vec<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    name: String,
    digest: String,
    size: i64,
    #[serde(default)]
    details: TagDetails,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TagDetails {
    family: String,
    parameter_size: String,
    quantization_level: String,
}

#[derive(Deserialize)]
pub struct Loaded {
    models: Vec<LoadedModel>,
}

#[derive(Deserialize)]
struct LoadedModel {
    name: String,
    #[serde(default)]
    size: i64,
}

#[derive(Deserialize)]
pub struct Shown {
    #[serde(default)]
    capabilities: Vec<String>,
    #[serde(default)]
    model_info: Map<String, Value>,
}

/// One look at a node, in an order that doesn't depend on when models were made or used.
pub fn probe(version: Version, tags: Tags, loaded: Loaded) -> Probe {
    let mut models: Vec<NodeModel> = tags.models.into_iter().map(NodeModel::from).collect();
    models.sort_by(|a, b| a.name.cmp(&b.name));
    let memory = loaded.models.iter().map(|model| (model.name.clone(), model.size)).collect();
    let mut loaded: Vec<String> = loaded.models.into_iter().map(|model| model.name).collect();
    loaded.sort();
    Probe { version: version.version, models, loaded, memory }
}

impl From<Tag> for NodeModel {
    fn from(tag: Tag) -> Self {
        Self {
            name: tag.name,
            digest: format!("sha256:{}", tag.digest.trim_start_matches("sha256:")),
            size_bytes: tag.size,
            family: tag.details.family,
            parameter_size: tag.details.parameter_size,
            quantization: tag.details.quantization_level,
            capabilities: Vec::new(),
            context_length: None,
        }
    }
}

impl From<Shown> for ModelDetails {
    fn from(shown: Shown) -> Self {
        let architecture = shown.model_info.get("general.architecture").and_then(Value::as_str).unwrap_or_default();
        let key = format!("{architecture}.context_length");
        let context_length = shown.model_info.get(&key).and_then(Value::as_i64);
        let mut capabilities = shown.capabilities;
        capabilities.sort();
        Self { capabilities, context_length }
    }
}
