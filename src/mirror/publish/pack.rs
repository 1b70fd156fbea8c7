//! The layers of a model, as `ollama create` makes them of a Modelfile.
//!
//! Source of the rules: Ollama's `server/create.go`. A layer that the Modelfile gives replaces those of its kind that the
//! base has, but licenses add up, and parameters are replaced one by one.

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Blob, Source,
    files::Weights,
    parameters::{self, Parameters},
};
use crate::domain::{
    gguf::{Head, Kind},
    manifest::{Layer, Manifest},
    modelfile::Modelfile,
};

const MODEL: &str = "application/vnd.ollama.image.model";
const ADAPTER: &str = "application/vnd.ollama.image.adapter";
const PROJECTOR: &str = "application/vnd.ollama.image.projector";
const TEMPLATE: &str = "application/vnd.ollama.image.template";
const SYSTEM: &str = "application/vnd.ollama.image.system";
const LICENSE: &str = "application/vnd.ollama.image.license";
/// Parameters, as a JSON object.
pub const PARAMS: &str = "application/vnd.ollama.image.params";
const MESSAGES: &str = "application/vnd.ollama.image.messages";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What a model is made of.
pub enum Base {
    /// Files of weights.
    Files(Vec<Weights>),
    /// Another model, which the mirror has.
    Model {
        /// Its layers.
        layers: Vec<Layer>,
        /// Its configuration.
        config: Value,
        /// Its parameters.
        parameters: Value,
    },
}

/// A model, ready to be pushed.
pub struct Package {
    /// Its manifest.
    pub manifest: Manifest,
    /// Every blob that the manifest names.
    pub blobs: Vec<Blob>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// The configuration of a model, in the order in which Ollama writes it.
#[derive(Default, Serialize)]
struct Config {
    model_format: String,
    model_family: String,
    model_families: Vec<String>,
    model_type: String,
    file_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    renderer: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    parser: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    requires: String,
    architecture: &'static str,
    os: &'static str,
    rootfs: Value,
}

/// Puts the layers together.
///
/// # Errors
/// What is wrong with the Modelfile or the files.
pub fn pack(modelfile: &Modelfile, base: Base, adapters: Vec<Weights>) -> Result<Package, String> {
    let mut packing = Packing::default();
    let mut values = packing.start(base)?;
    adapters.into_iter().for_each(|adapter| packing.weights(adapter));
    let has_model = packing.layers.iter().any(|(kind, _)| kind == MODEL);
    if !has_model {
        return Err("there are no weights of a model in it: name a GGUF file of a whole model with FROM".into());
    }
    packing.replace(TEMPLATE, modelfile.template.as_deref());
    packing.replace(SYSTEM, modelfile.system.as_deref());
    for license in &modelfile.licenses {
        packing.push(LICENSE, Blob::of(license.clone()));
    }
    values.extend(parameters::read(&modelfile.parameters, &mut packing.warnings)?);
    if !values.is_empty() {
        packing.replace(PARAMS, Some(&encoded(&values)?));
    }
    if !modelfile.messages.is_empty() {
        let messages =
            modelfile.messages.iter().map(|message| json!({"role": message.role, "content": message.content}));
        packing.replace(MESSAGES, Some(&encoded(&messages.collect::<Vec<Value>>())?));
    }
    let given = [
        (&mut packing.config.renderer, &modelfile.renderer),
        (&mut packing.config.parser, &modelfile.parser),
        (&mut packing.config.requires, &modelfile.requires),
    ];
    for (field, value) in given {
        field.clone_from(value.as_ref().unwrap_or(&field.clone()));
    }
    packing.finish()
}

#[derive(Default)]
struct Packing {
    layers: Vec<(String, Blob)>,
    config: Config,
    warnings: Vec<String>,
    /// A file with a chat template of its own.
    untold: Option<String>,
}

impl Packing {
    /// Takes the base; its parameters.
    fn start(&mut self, base: Base) -> Result<Parameters, String> {
        match base {
            Base::Files(files) => {
                files.into_iter().for_each(|weights| self.weights(weights));
                Ok(Parameters::new())
            }
            Base::Model { layers, config, parameters } => {
                for layer in layers {
                    let (digest, size) = (layer.digest.parse()?, u64::try_from(layer.size).unwrap_or(0));
                    self.layers.push((layer.media_type, Blob { digest, size, source: Source::Mirror }));
                }
                self.config = configured(&config);
                Ok(parameters.as_object().cloned().unwrap_or_default().into_iter().collect())
            }
        }
    }

    fn weights(&mut self, Weights { blob, head, name }: Weights) {
        let kind = match head.kind {
            Kind::Model => MODEL,
            Kind::Adapter => ADAPTER,
            Kind::Projector => PROJECTOR,
        };
        self.describe(&head);
        if head.has_chat_template {
            self.untold = Some(name);
        }
        self.push(kind, blob);
    }

    /// The first file says what the model is; each adds its family.
    fn describe(&mut self, head: &Head) {
        let fields = [
            (&mut self.config.model_format, "gguf".to_owned()),
            (&mut self.config.model_family, head.architecture.clone()),
            (&mut self.config.model_type, head.parameter_size()),
            (&mut self.config.file_type, head.quantization().to_owned()),
        ];
        for (field, value) in fields {
            if field.is_empty() {
                *field = value;
            }
        }
        self.config.model_families.push(head.architecture.clone());
    }

    fn push(&mut self, kind: &str, blob: Blob) {
        self.layers.push((kind.to_owned(), blob));
    }

    fn replace(&mut self, kind: &str, text: Option<&str>) {
        // As there, an empty one changes nothing.
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.layers.retain(|(other, _)| other != kind);
            self.push(kind, Blob::of(text.to_owned()));
        }
    }

    fn finish(mut self) -> Result<Package, String> {
        let has_template = self.layers.iter().any(|(kind, _)| kind == TEMPLATE);
        if let Some(name) = self.untold.take().filter(|_| !has_template) {
            self.warnings.push(format!(
                "{name} has a chat template, which Ollama can't run: without a TEMPLATE in a Modelfile, nodes give the \
                 model the bare text of messages, without roles. (`ollama create` would look for a template of its own \
                 that is like it; `ollama show --template` of a model of the same family prints one.)"
            ));
        }
        let digests: Vec<&str> = self.layers.iter().map(|(_, blob)| blob.digest.as_str()).collect();
        self.config.rootfs = json!({"type": "layers", "diff_ids": digests});
        (self.config.architecture, self.config.os) = ("amd64", "linux");
        let config = Blob::of(encoded(&self.config)?);
        let layer = |kind: &str, blob: &Blob| Layer {
            media_type: kind.into(),
            digest: blob.digest.to_string(),
            size: i64::try_from(blob.size).unwrap_or(i64::MAX),
            ..Layer::default()
        };
        let layers = self.layers.iter().map(|(kind, blob)| layer(kind, blob)).collect();
        let manifest = Manifest::new(layer(CONFIG, &config), layers).validate()?;
        let blobs = self.layers.into_iter().map(|(_, blob)| blob).chain([config]).collect();
        Ok(Package { manifest, blobs, warnings: self.warnings })
    }
}

fn configured(config: &Value) -> Config {
    let text = |field: &str| config[field].as_str().unwrap_or_default().to_owned();
    let families = config["model_families"].as_array().into_iter().flatten();
    Config {
        model_format: text("model_format"),
        model_family: text("model_family"),
        model_families: families.filter_map(|family| family.as_str().map(str::to_owned)).collect(),
        model_type: text("model_type"),
        file_type: text("file_type"),
        renderer: text("renderer"),
        parser: text("parser"),
        requires: text("requires"),
        ..Config::default()
    }
}

/// JSON as Go writes it, which escapes what could end a script in a web page, with a line's end.
fn encoded(value: &impl Serialize) -> Result<String, String> {
    let mut text = serde_json::to_string(value).map_err(|error| error.to_string())?;
    // Outside of strings JSON has none of these.
    for c in ['<', '>', '&', '\u{2028}', '\u{2029}'] {
        text = text.replace(c, &format!("\\u{:04x}", u32::from(c)));
    }
    Ok(text + "\n")
}
