//! Manifests of models: what is accepted as one, and the bytes that Ollama makes of it.
//!
//! A node keeps a manifest as it encodes it itself, and the digest that it reports is that of those bytes. So the
//! mirror hands out exactly them, and knows a node's digest beforehand. Source of the form: Ollama's
//! `manifest/manifest.go` and `manifest/layer.go`, encoded by Go's `json.Marshal`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;

/// Docker's media type of a manifest, the one that Ollama writes.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// OCI's media type of a manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// What every kind of layer of a model begins with.
const OLLAMA_LAYER: &str = "application/vnd.ollama.image.";
/// No manifest is longer, in bytes.
pub const LONGEST: usize = 4 << 20;
/// No layer is bigger, in bytes: 16 TiB.
const BIGGEST_LAYER: i64 = 1 << 44;
const MOST_LAYERS: usize = 20_000;

/// One blob that a manifest names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Layer {
    /// What it holds.
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: i64,
    /// Where it was made from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// Name of a tensor, for layers that hold one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// A manifest as far as Ollama reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Manifest {
    /// Always 2.
    pub schema_version: i64,
    /// Docker's or OCI's, or empty.
    pub media_type: String,
    /// What the model is.
    pub config: Layer,
    /// Weights, template, parameters and so on.
    pub layers: Vec<Layer>,
    /// Only lists of manifests have this.
    #[serde(rename = "manifests", skip_serializing)]
    list: Option<Vec<Empty>>,
}

/// An entry whose fields don't matter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Empty {}

impl Manifest {
    /// A manifest as Ollama makes it.
    pub fn new(config: Layer, layers: Vec<Layer>) -> Self {
        Self { schema_version: 2, media_type: DOCKER_MANIFEST.into(), config, layers, list: None }
    }

    /// The manifest, if a node can do something with it.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn validate(self) -> Result<Self, String> {
        if self.list.is_some() {
            return Err("it is a list of manifests for several platforms, not an Ollama model".into());
        }
        if self.schema_version != 2 {
            return Err(format!("its schemaVersion is {}, not 2", self.schema_version));
        }
        if !["", DOCKER_MANIFEST, OCI_MANIFEST].contains(&self.media_type.as_str()) {
            return Err(format!("its media type is {:?}, not that of a manifest", self.media_type));
        }
        if self.layers.len() > MOST_LAYERS {
            return Err(format!("it has {} layers, more than {MOST_LAYERS}", self.layers.len()));
        }
        if !self.layers.iter().any(|layer| layer.media_type.starts_with(OLLAMA_LAYER)) {
            return Err("none of its layers is one of an Ollama model: it is an image of another kind".into());
        }
        self.blobs()?;
        Ok(self)
    }

    /// Every blob once, with its size in bytes.
    ///
    /// # Errors
    /// A sentence about the first digest or size that can't be one.
    pub fn blobs(&self) -> Result<BTreeMap<Digest, u64>, String> {
        let mut blobs = BTreeMap::new();
        for layer in self.layers.iter().chain([&self.config]) {
            let digest: Digest = layer.digest.parse()?;
            let size = u64::try_from(layer.size).ok().filter(|_| layer.size <= BIGGEST_LAYER);
            let size = size.ok_or_else(|| format!("the size of layer {digest} is {}", layer.size))?;
            if blobs.insert(digest, size).is_some_and(|other| other != size) {
                return Err(format!("layer {} is named with two sizes", layer.digest));
            }
        }
        Ok(blobs)
    }

    /// Bytes of all layers, as nodes count them: a layer that comes twice counts twice.
    pub fn size(&self) -> i64 {
        self.layers.iter().chain([&self.config]).fold(0, |sum: i64, layer| sum.saturating_add(layer.size))
    }

    /// The bytes that Ollama keeps of it.
    pub fn encode(&self) -> String {
        let mut text = format!("{{\"schemaVersion\":{},\"mediaType\":", self.schema_version);
        push_string(&mut text, &self.media_type);
        text.push_str(",\"config\":");
        push_layer(&mut text, &self.config);
        text.push_str(",\"layers\":[");
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            push_layer(&mut text, layer);
        }
        text.push_str("]}");
        text
    }
}

fn push_layer(text: &mut String, layer: &Layer) {
    text.push_str("{\"mediaType\":");
    push_string(text, &layer.media_type);
    text.push_str(",\"digest\":");
    push_string(text, &layer.digest);
    text.push_str(&format!(",\"size\":{}", layer.size));
    for (key, value) in [("from", &layer.from), ("name", &layer.name)] {
        if !value.is_empty() {
            text.push_str(&format!(",\"{key}\":"));
            push_string(text, value);
        }
    }
    text.push('}');
}

/// A string as Go writes it, which escapes what could end a script in a web page.
fn push_string(text: &mut String, value: &str) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}
