//! Brings models into a mirror from files: builds the layers as `ollama create` does, and pushes them.

mod files;
mod pack;
mod parameters;
mod registry;

use std::path::{Path, PathBuf};

use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::Value;

use super::{push::keys::KeyPair, random, sha256};
use crate::{
    domain::{
        digest::Digest,
        manifest::{Layer, Manifest},
        model_name::{DEFAULT_HOST, ModelName},
        modelfile::{self, Modelfile},
    },
    mirror::push::own_name,
    ports::{Mirror as _, PullGrant},
};
use files::Weights;
use pack::{Base, Package};
pub use registry::Registry;

/// What to push, and under which name.
pub struct Push {
    /// A GGUF file or a Modelfile.
    pub file: PathBuf,
    /// More adapters.
    pub adapters: Vec<PathBuf>,
    /// The name.
    pub name: String,
}

/// What a push did.
#[derive(Debug)]
pub struct Pushed {
    /// The name as people write it.
    pub name: String,
    /// The digest that nodes will report.
    pub digest: Digest,
}

/// Tells people how it goes.
pub type Say<'a> = &'a (dyn Fn(&str) + Sync);

/// Where the bytes of a blob are.
#[derive(Clone)]
enum Source {
    File(PathBuf),
    Bytes(Bytes),
    /// At the mirror already.
    Mirror,
}

/// A blob that is to be at the mirror.
#[derive(Clone)]
struct Blob {
    digest: Digest,
    size: u64,
    source: Source,
}

impl Blob {
    fn of(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { digest: sha256(&bytes), size: bytes.len() as u64, source: Source::Bytes(bytes) }
    }
}

/// Pushes a model.
///
/// # Errors
/// What is wrong with the files, or why the mirror didn't take them.
pub async fn publish(registry: &Registry, push: &Push, say: Say<'_>) -> Result<Pushed, String> {
    let name = pushed_name(&push.name)?;
    let package = build(registry, push, say).await?;
    package.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
    for blob in &package.blobs {
        registry.upload(&name, blob, say).await?;
    }
    let digest = registry.put_manifest(&name, &package.manifest).await?;
    Ok(Pushed { name: shown(&name), digest })
}

fn pushed_name(text: &str) -> Result<ModelName, String> {
    let name: ModelName = text.parse()?;
    match name.host == DEFAULT_HOST && text.matches('/').count() < 2 {
        true => own_name(&name.namespace, &name.model, &name.tag),
        false => Err(format!("{text}: write the name without a host, and say with --mirror where it goes")),
    }
}

/// A name without what goes without saying.
pub fn shown(name: &ModelName) -> String {
    let full = name.to_string();
    let short = full.strip_prefix(DEFAULT_HOST).and_then(|rest| rest.strip_prefix('/')).unwrap_or(&full);
    short.strip_prefix("library/").unwrap_or(short).to_owned()
}

async fn build(registry: &Registry, push: &Push, say: Say<'_>) -> Result<Package, String> {
    let (mut modelfile, folder) = match files::is_gguf(&push.file).await? {
        // Its place is known: nothing is to be looked up.
        true => (Modelfile { from: vec![files::absolute(&push.file)?], ..Modelfile::default() }, PathBuf::new()),
        false => read_modelfile(&push.file).await?,
    };
    for adapter in &push.adapters {
        modelfile.adapters.push(files::absolute(adapter)?);
    }
    let mut weights = Vec::new();
    for adapter in &modelfile.adapters {
        let paths =
            files::find(&folder, adapter)?.ok_or_else(|| format!("adapter {adapter}: there is no such file"))?;
        for path in paths {
            weights.push(files::read(path, true, say).await?);
        }
    }
    let base = base(registry, &modelfile, &folder, say).await?;
    pack::pack(&modelfile, base, weights)
}

async fn read_modelfile(path: &Path) -> Result<(Modelfile, PathBuf), String> {
    let fault = |why: String| format!("{}: {why}", path.display());
    let bytes = tokio::fs::read(path).await.map_err(|error| fault(error.to_string()))?;
    let text = modelfile::decode(&bytes).map_err(|why| fault(format!("neither a GGUF file nor a Modelfile: {why}")))?;
    let modelfile = Modelfile::parse(&text).map_err(|why| fault(why.to_string()))?;
    Ok((modelfile, path.parent().map(Path::to_path_buf).unwrap_or_default()))
}

/// What the `FROM` lines name: files, or one model.
async fn base(registry: &Registry, modelfile: &Modelfile, folder: &Path, say: Say<'_>) -> Result<Base, String> {
    let mut weights: Vec<Weights> = Vec::new();
    for from in &modelfile.from {
        match files::find(folder, from)? {
            Some(paths) => {
                for path in paths {
                    weights.push(files::read(path, false, say).await?);
                }
            }
            None if modelfile.from.len() == 1 => return from_model(registry, from, say).await,
            None => {
                return Err(format!(
                    "FROM {from}: there is no such file, and a model can't be one of several FROM lines"
                ));
            }
        }
    }
    Ok(Base::Files(weights))
}

async fn from_model(registry: &Registry, model: &str, say: Say<'_>) -> Result<Base, String> {
    let name: ModelName = model.parse().map_err(|why| format!("FROM {model}: there is no such file, and {why}"))?;
    if let Some(manifest) = registry.manifest(&name).await? {
        return read_base(registry, &name, manifest).await;
    }
    let granted =
        ModelName { namespace: format!("drover-push-{}", random()), host: DEFAULT_HOST.into(), ..name.clone() };
    let grant = PullGrant { model: model.into(), insecure: false, login: None, digest: None };
    say(&format!("having the mirror fetch {model}"));
    let result = async {
        registry.mirror().grant(&granted.namespace, grant).await.map_err(|error| format!("FROM {model}: {error}"))?;
        let manifest = registry.manifest(&granted).await?;
        let manifest = manifest.ok_or_else(|| format!("FROM {model}: the mirror does not give it"))?;
        for digest in manifest.blobs()?.keys() {
            // Once its last byte is here, the mirror has it whole.
            registry.fetch(&granted, digest, None).await?;
        }
        read_base(registry, &granted, manifest).await
    };
    let base = result.await;
    // One that stays goes by itself within a day.
    let _ = registry.mirror().revoke(&granted.namespace).await;
    base
}

async fn read_base(registry: &Registry, name: &ModelName, manifest: Manifest) -> Result<Base, String> {
    const SMALL: u64 = 4 << 20;
    let json = async |layer: &Layer| -> Result<Value, String> {
        let bytes = registry.fetch(name, &layer.digest.parse()?, Some(SMALL)).await?;
        serde_json::from_slice(&bytes).map_err(|error| format!("{}: layer {}: {error}", shown(name), layer.digest))
    };
    let config = if manifest.config.digest.is_empty() { Value::Null } else { json(&manifest.config).await? };
    let parameters = manifest.layers.iter().rfind(|layer| layer.media_type == pack::PARAMS);
    let parameters = match parameters {
        Some(layer) => json(layer).await?,
        None => Value::Null,
    };
    Ok(Base::Model { layers: manifest.layers, config, parameters })
}

/// The key pair in a file.
///
/// # Errors
/// When it can't be read.
pub fn key_pair(path: &Path) -> Result<KeyPair, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    KeyPair::read(&text).map_err(|why| format!("{}: {why}", path.display()))
}

fn describe(status: StatusCode, text: &str) -> String {
    let text = text.trim();
    if text.is_empty() { format!("the mirror answered HTTP {status}") } else { format!("the mirror answered: {text}") }
}
