use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{DIGEST_PATTERN, HasConditions, conditions_schema, parameters_schema};
pub use crate::domain::registry::Lifecycle;
use crate::domain::{
    conditions::Condition,
    model_name, provider,
    registry::{Parents, Stage, VersionRecord},
    rollout::Entry,
    version,
};

/// What the name of a model line looks like: a DNS label, so that it can be part of other names.
pub const MODEL_PATTERN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// The same as a rule in CEL.
pub(super) const MODEL_RULE: &str = "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')";
/// What to write instead of what breaks the rule.
pub(super) const MODEL_FORM: &str =
    "a model must look like support-bot: small letters, digits and -, with a letter or digit at both ends";

/// One version of a model: what to run, with which parameters and system prompt.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "drover.dev",
    version = "v1alpha1",
    kind = "ModelVersion",
    namespaced,
    status = "ModelVersionStatus",
    derive = "PartialEq",
    shortname = "mver",
    category = "drover",
    doc = "One version of a model: what to run, with which parameters and system prompt.",
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Lifecycle", type_ = "string", json_path = ".status.lifecycle"),
    printcolumn(name = "Weight", type_ = "integer", json_path = ".status.weight"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.readyNodes"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.digest", priority = "1"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 128").message("metadata.name must have at most 128 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.model == oldSelf.model && self.version == oldSelf.version", "model and version are immutable: register another ModelVersion"))]
#[x_kube(validation = ("has(self.source.ollama) != has(self.source.provider)", "source: name one of ollama and provider"))]
#[x_kube(validation = ("self.source == oldSelf.source", "source is immutable: register another ModelVersion"))]
#[x_kube(validation = ("has(self.parameters) == has(oldSelf.parameters) && (!has(self.parameters) || self.parameters == oldSelf.parameters)", "parameters are immutable: register another ModelVersion"))]
#[x_kube(validation = ("has(self.systemPrompt) == has(oldSelf.systemPrompt) && (!has(self.systemPrompt) || self.systemPrompt == oldSelf.systemPrompt)", "systemPrompt is immutable: register another ModelVersion"))]
#[x_kube(validation = ("has(self.parent) == has(oldSelf.parent) && (!has(self.parent) || self.parent == oldSelf.parent)", "parent is immutable: register another ModelVersion"))]
#[x_kube(validation = ("!has(self.parent) || self.parent != self.version", "a version can't be its own parent"))]
pub struct ModelVersionSpec {
    /// The model line that this is a version of.
    #[schemars(regex(pattern = MODEL_PATTERN), length(max = 63))]
    #[x_kube(validation = (MODEL_RULE, MODEL_FORM))]
    pub model: String,
    /// `vMAJOR.MINOR.PATCH`, optionally with `-suffix`.
    #[schemars(regex(pattern = version::PATTERN), length(max = 64))]
    #[x_kube(validation = (version::RULE, version::FORM))]
    pub version: String,
    /// Where the answers come from: nodes or a provider.
    pub source: VersionSource,
    /// Parameters as Ollama's `options` take them, for example `temperature` and `num_ctx`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "parameters_schema")]
    pub parameters: BTreeMap<String, Value>,
    /// The system prompt for requests that bring none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<SystemPrompt>,
    /// The version that this one was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = version::PATTERN), length(max = 64))]
    #[x_kube(validation = (version::RULE, version::FORM))]
    pub parent: Option<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 63)))]
    pub tags: Vec<String>,
    /// What changed, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16384))]
    pub changelog: String,
}

/// Where the answers come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VersionSource {
    /// A model that nodes hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ollama: Option<OllamaSource>,
    /// A model of a provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderSource>,
}

/// A model of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderSource {
    /// The `Provider` of the same namespace.
    #[schemars(regex(pattern = MODEL_PATTERN), length(max = 63))]
    pub name: String,
    /// The provider's name for the model.
    #[schemars(length(min = 1, max = 253))]
    pub model: String,
}

/// A model that nodes hold.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OllamaSource {
    /// The tag under which nodes hold it.
    #[schemars(regex(pattern = model_name::PATTERN), length(max = 253))]
    #[x_kube(validation = (model_name::RULE, model_name::FORM))]
    pub tag: String,
    /// The digest it must have. Without one, the digest found first is kept for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DIGEST_PATTERN))]
    pub digest: Option<String>,
}

/// A system prompt with a version of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SystemPrompt {
    /// Which edition of the prompt this is.
    #[schemars(length(max = 63))]
    pub version: String,
    /// The prompt.
    #[schemars(length(max = 65536))]
    pub text: String,
}

/// What is known of a version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelVersionStatus {
    /// The `metadata.generation` this status is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the digest is known and at least one ready node holds it; of a provider's model, it can be asked for.
    #[serde(default)]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// Its place in its deployment's life.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// Percent of its deployment's requests.
    #[serde(default)]
    pub weight: u8,
    /// When it last began to serve all requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub deployed_at: Option<Timestamp>,
    /// The digest it stands for; never changes once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The name by which nodes serve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// How many ready nodes hold it under its alias.
    #[serde(default)]
    pub ready_nodes: i64,
    /// What was done to it and by whom, newest first, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub audit: Vec<AuditedVersion>,
}

/// One thing that a deployment did to a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditedVersion {
    /// The ModelDeployment.
    pub deployment: String,
    /// What was done.
    #[serde(flatten)]
    pub entry: Entry,
}

impl ProviderSource {
    /// The name of the model in requests and answers.
    pub fn tag(&self) -> String {
        provider::tag(&self.name, &self.model)
    }
}

impl ModelVersion {
    /// The tag that nodes hold, or the provider's model.
    pub fn tag(&self) -> String {
        let VersionSource { ollama, provider } = &self.spec.source;
        let tag = ollama.as_ref().map(|ollama| ollama.tag.clone());
        tag.or_else(|| provider.as_ref().map(ProviderSource::tag)).unwrap_or_default()
    }

    /// Where it was in its life when its status was written.
    pub fn stage(&self) -> Stage {
        let of = |status: &ModelVersionStatus| Stage {
            lifecycle: status.lifecycle,
            weight: status.weight,
            deployed_at: status.deployed_at,
        };
        self.status.as_ref().map(of).unwrap_or_default()
    }

    /// The same as files have it, at this stage of its life.
    ///
    /// # Errors
    /// When the spec can't be written as JSON.
    pub fn record(&self, stage: Stage) -> Result<VersionRecord, serde_json::Error> {
        Ok(VersionRecord {
            name: self.name_any(),
            lifecycle: stage,
            digest: self.status.as_ref().and_then(|status| status.digest.clone()),
            deployed_at: stage.deployed_at,
            spec: serde_json::to_value(&self.spec)?,
        })
    }
}

/// The parents that the versions of one model name.
pub fn parents<'a>(model: &str, versions: impl IntoIterator<Item = &'a ModelVersion>) -> Parents<'a> {
    let same = versions.into_iter().filter(|version| version.spec.model == model);
    same.map(|version| (&*version.spec.version, version.spec.parent.as_deref())).collect()
}

impl HasConditions for ModelVersion {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}
