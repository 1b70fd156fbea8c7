//! `drover versions create`, and how `drover deploy` registers a version.

use std::{collections::BTreeMap, fs, io::Read, path::PathBuf};

use clap::Args;
use kube::ResourceExt;
use serde_json::Value;

use super::next;
use crate::{
    api::{ModelVersion, ModelVersionSpec, OllamaSource, ProviderSource, SystemPrompt, VersionSource},
    cli::{
        manifests::{self, Format},
        registered::{Registered, model, version},
    },
    cluster,
    domain::{
        digest::Digest,
        model_name::ModelName,
        registry::{Fate, Present, Stage, fate},
        version::Part,
    },
};

/// So often the next version is looked for again when somebody else took it.
const ATTEMPTS: usize = 100;
const STDIN: &str = "-";

#[derive(Args)]
pub struct Create {
    /// The model
    #[arg(value_parser = model)]
    model: String,
    /// The version, such as v1.1.0; --patch, --minor and --major take the next one
    #[arg(value_parser = version, required_unless_present_any = ["patch", "minor", "major"])]
    version: Option<String>,
    /// The next version, as in v1.2.4 after v1.2.3
    #[arg(long, group = "part", conflicts_with = "version")]
    patch: bool,
    /// The next version, as in v1.3.0 after v1.2.3
    #[arg(long, group = "part", conflicts_with = "version")]
    minor: bool,
    /// The next version, as in v2.0.0 after v1.2.3
    #[arg(long, group = "part", conflicts_with = "version")]
    major: bool,
    #[command(flatten)]
    making: Making,
    /// Its namespace; without one, the kubeconfig's
    #[arg(short, long)]
    namespace: Option<String>,
    /// Make nothing: print the manifest
    #[arg(long)]
    dry_run: bool,
    /// How to print the manifest
    #[arg(short, long, value_enum, default_value_t = Format::Yaml, requires = "dry_run")]
    output: Format,
}

/// What a version is made of.
#[derive(Args)]
pub struct Making {
    /// The tag under which nodes hold the model, such as llama3.2:3b
    #[arg(long, value_name = "TAG", conflicts_with = "provider", value_parser = tag)]
    pub tag: Option<String>,
    /// The digest it must have; without one, what the tag stands for on the nodes is kept for good
    #[arg(long, value_name = "DIGEST", requires = "tag", value_parser = digest)]
    digest: Option<String>,
    /// A provider's model instead, such as openrouter/meta-llama/llama-3.1-70b-instruct
    #[arg(long, value_name = "PROVIDER/MODEL", value_parser = offer)]
    provider: Option<ProviderSource>,
    /// A parameter as Ollama's options take it, such as temperature=0.2; may be given again
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, Value)>,
    /// File with the system prompt; - for standard input
    #[arg(long, value_name = "FILE")]
    system_file: Option<PathBuf>,
    /// Which edition of the system prompt it is
    #[arg(long, value_name = "EDITION", requires = "system_file", default_value = "1")]
    system_version: String,
    /// The version that it was made from
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub parent: Option<String>,
    /// What changed, for people
    #[arg(long, value_name = "TEXT")]
    changelog: Option<String>,
    /// A word to find it by; may be given again
    #[arg(long = "word", value_name = "WORD")]
    words: Vec<String>,
}

/// What became of a version that was to be registered.
pub enum Outcome {
    /// It is there now.
    Made,
    /// It was there, just so.
    WasThere,
    /// Another object has its name or is that version; these fields differ.
    Differs(Vec<String>),
}

impl Making {
    /// Whether it says what the version is made of.
    pub fn has_source(&self) -> bool {
        self.tag.is_some() || self.provider.is_some()
    }

    /// The version as an object.
    ///
    /// # Errors
    /// When it isn't said what it is made of, or a file can't be read.
    pub fn object(&self, model: &str, version: &str) -> Result<ModelVersion, String> {
        if !self.has_source() {
            return Err(format!(
                "{model} {version}: say what it is made of: --tag llama3.2:3b, or --provider openrouter/MODEL"
            ));
        }
        let ollama = self.tag.clone().map(|tag| OllamaSource { tag, digest: self.digest.clone() });
        let source = VersionSource { ollama, provider: self.provider.clone() };
        let prompt = self.system_file.as_ref().map(read).transpose()?;
        let spec = ModelVersionSpec {
            model: model.into(),
            version: version.into(),
            source,
            parameters: self.parameters.iter().cloned().collect::<BTreeMap<_, _>>(),
            system_prompt: prompt.map(|text| SystemPrompt { version: self.system_version.clone(), text }),
            parent: self.parent.clone(),
            tags: self.words.clone(),
            changelog: self.changelog.clone().unwrap_or_default(),
        };
        Ok(ModelVersion::new(&object_name(model, version), spec))
    }
}

/// The usual name of a version's object.
fn object_name(model: &str, version: &str) -> String {
    format!("{model}-{version}").to_ascii_lowercase()
}

pub async fn create(command: &Create) -> Result<(), String> {
    let part = match (command.patch, command.minor, command.major) {
        (true, ..) => Some(Part::Patch),
        (_, true, _) => Some(Part::Minor),
        (.., true) => Some(Part::Major),
        _ => None,
    };
    if let (true, Some(version)) = (command.dry_run, &command.version) {
        let object = command.making.object(&command.model, version)?;
        return manifests::print(vec![manifests::plain(&object, command.namespace.as_deref())?], command.output);
    }
    let mut registered = Registered::load(command.namespace.as_deref()).await?;
    for _ in 0..ATTEMPTS {
        let version = match (&command.version, part) {
            (Some(version), _) => version.clone(),
            (None, Some(part)) => next(&registered, &command.model, part)?,
            (None, None) => return Err("name a version, or --patch, --minor or --major".into()),
        };
        let object = command.making.object(&command.model, &version)?;
        if command.dry_run {
            return manifests::print(vec![manifests::plain(&object, command.namespace.as_deref())?], command.output);
        }
        let (model, namespace) = (&command.model, &registered.namespace);
        match register(&registered, &object).await? {
            Outcome::Made => {
                println!(
                    "{model} {version} is registered in namespace {namespace} as ModelVersion {}",
                    object.name_any()
                );
                return Ok(());
            }
            // Whoever asked for the next one wants one of its own.
            Outcome::WasThere | Outcome::Differs(_) if part.is_some() => registered = registered.again().await?,
            Outcome::WasThere => {
                println!("{model} {version} is registered in namespace {namespace} already, just so");
                return Ok(());
            }
            Outcome::Differs(fields) => return Err(taken(model, &version, &fields)),
        }
    }
    Err(format!("{}: others take each next version first; try again", command.model))
}

/// What is said of a version that is another one already.
pub fn taken(model: &str, version: &str, fields: &[String]) -> String {
    format!(
        "{model} {version} is registered already, with another {}: what a version is never changes, so choose another \
         number (`drover versions next {model}`)",
        fields.join(", ")
    )
}

/// Registers a version, unless it is there.
///
/// # Errors
/// Whatever the API says.
pub async fn register(registered: &Registered, object: &ModelVersion) -> Result<Outcome, String> {
    let spec = &object.spec;
    if let Some(present) = registered.find(&spec.model, &spec.version) {
        return compare(object, present);
    }
    let api = cluster::api::<ModelVersion>(&registered.client, Some(&registered.namespace));
    match cluster::create(&api, object).await {
        Ok(()) => Ok(Outcome::Made),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let present = api.get_opt(&object.name_any()).await.map_err(|error| error.to_string())?;
            present
                .map_or_else(|| Err("it was deleted meanwhile; try again".into()), |present| compare(object, &present))
        }
        Err(error) => Err(format!("{} {}: {error}", spec.model, spec.version)),
    }
}

fn compare(wanted: &ModelVersion, present: &ModelVersion) -> Result<Outcome, String> {
    let fault = |error: serde_json::Error| error.to_string();
    let record = wanted.record(Stage::default()).map_err(fault)?;
    let mut there = Present { spec: serde_json::to_value(&present.spec).map_err(fault)?, digest: None };
    // A digest that isn't asked for may be any.
    let is_pinned = wanted.spec.source.ollama.as_ref().is_some_and(|source| source.digest.is_some());
    match there.spec.pointer_mut("/source/ollama").and_then(Value::as_object_mut) {
        Some(source) if !is_pinned => drop(source.remove("digest")),
        _ => there.digest = present.status.as_ref().and_then(|status| status.digest.clone()),
    }
    Ok(match fate(&record, Some(&there)) {
        Fate::Differs(fields) => Outcome::Differs(fields),
        _ => Outcome::WasThere,
    })
}

fn read(path: &PathBuf) -> Result<String, String> {
    if path.as_os_str() != STDIN {
        return fs::read_to_string(path).map_err(|error| format!("--system-file {}: {error}", path.display()));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| format!("standard input: {error}"))?;
    Ok(text)
}

fn tag(text: &str) -> Result<String, String> {
    text.parse::<ModelName>().map(|_| text.to_owned())
}

fn digest(text: &str) -> Result<String, String> {
    text.parse::<Digest>()
        .map(|digest| digest.to_string())
        .map_err(|_| "a digest looks like sha256:… with 64 digits".into())
}

fn offer(text: &str) -> Result<ProviderSource, String> {
    match text.split_once('/').filter(|(name, model)| !name.is_empty() && !model.is_empty()) {
        Some((name, model)) => Ok(ProviderSource { name: name.into(), model: model.into() }),
        None => Err(
            "write the provider's name, a slash and the model, such as openrouter/meta-llama/llama-3.1-70b-instruct"
                .into(),
        ),
    }
}

/// A value is JSON, or else text.
fn parameter(text: &str) -> Result<(String, Value), String> {
    let (name, value) =
        text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("write NAME=VALUE, such as temperature=0.2")?;
    Ok((name.into(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}
