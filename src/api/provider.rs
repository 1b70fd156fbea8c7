use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HasConditions, LABEL_APPLIED_BY, conditions_schema};
use crate::domain::{
    conditions::{Condition, ConditionStatus, READY},
    duration::HumanDuration,
    provider::{Endpoint, KeySource, Origin, Price, Protocol},
    url,
};

/// How many models a provider's object lists, in spec and status.
pub const MOST_MODELS: usize = 500;

/// A server of somebody else that answers requests: OpenAI-compatible, or Anthropic's.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "drover.dev",
    version = "v1alpha1",
    kind = "Provider",
    namespaced,
    status = "ProviderStatus",
    derive = "PartialEq",
    shortname = "prov",
    category = "drover",
    doc = "A server of somebody else that answers requests: OpenAI-compatible, or Anthropic's.",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.url"),
    printcolumn(name = "Models", type_ = "integer", json_path = ".status.modelCount"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Key", type_ = "string", json_path = ".status.keySource", priority = "1"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name must have at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct ProviderSpec {
    /// What it speaks.
    #[serde(rename = "type", default)]
    pub protocol: Protocol,
    /// The base URL of its API, as its own client libraries take it: `https://openrouter.ai/api/v1`,
    /// `https://api.anthropic.com`. Credentials don't belong in a URL.
    #[schemars(regex(pattern = url::HTTP_URL), length(max = 253))]
    #[x_kube(validation = ("!self.contains('@')", "must not hold credentials"))]
    pub url: String,
    /// The Secret that holds its key. Unset: the usual environment variable of a well-known provider, none for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretKeyRef>,
    /// The models that may be asked for. None: all that it lists, 500 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub models: Vec<ProviderModel>,
    /// How many requests it is given at once.
    #[serde(default = "default_concurrency")]
    #[schemars(range(min = 1, max = 1024))]
    pub max_concurrent_requests: u32,
    /// How long it may take until its answer begins.
    #[serde(default = "default_timeout")]
    pub request_timeout: HumanDuration,
    /// How often it is checked.
    #[serde(default = "default_check_interval")]
    pub check_interval: HumanDuration,
    /// Headers for every request, for example `http-referer`. Not for secrets: everybody who reads the object sees them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = ("self.all(name, !(name.lowerAscii() in ['authorization', 'x-api-key', 'api-key', 'cookie', 'host', 'content-length', 'content-type']))", "the key belongs in a Secret (apiKeySecretRef), and Drover writes host and content headers"))]
    pub headers: BTreeMap<String, String>,
    /// Options beyond its API that it takes by Ollama's names, for example `top_k` and `min_p` for vLLM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 63)))]
    pub extra_options: Vec<String>,
}

/// A key in a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"), length(max = 253))]
    pub name: String,
    /// The key in it.
    #[serde(default = "default_key")]
    #[schemars(regex(pattern = "^[-._a-zA-Z0-9]+$"), length(max = 253))]
    pub key: String,
}

/// A model as a provider offers it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderModel {
    /// The provider's name for it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// What it can do, in Ollama's words: `completion`, `tools`, `vision`, `thinking`, `embedding`. None: nobody knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub capabilities: Vec<String>,
    /// The longest context, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub context_length: Option<u32>,
    /// The most tokens that one answer may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_output_tokens: Option<u32>,
    /// US dollars for a million tokens read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1e6))]
    pub input_price_per_million: Option<f64>,
    /// US dollars for a million tokens written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1e6))]
    pub output_price_per_million: Option<f64>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 63)))]
    pub tags: Vec<String>,
}

/// What is known of a provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderStatus {
    /// The `metadata.generation` this status is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: there is a key where one is needed, and the last check passed.
    #[serde(default)]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// How it came to be there: declared, custom, from the environment, or from the catalogue, with a key or without.
    #[serde(default)]
    pub origin: Origin,
    /// Where its key is looked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key_source: String,
    /// How many models it offers.
    #[serde(default)]
    pub model_count: i64,
    /// The models that can be asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
}

fn default_concurrency() -> u32 {
    64
}

fn default_timeout() -> HumanDuration {
    HumanDuration::from_secs(300)
}

fn default_check_interval() -> HumanDuration {
    HumanDuration::from_secs(300)
}

fn default_key() -> String {
    "api-key".into()
}

impl HasConditions for Provider {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}

impl Provider {
    /// Everything that it takes to reach it, but for its key.
    pub fn endpoint(&self) -> Endpoint {
        let spec = &self.spec;
        let url = spec.url.trim_end_matches('/');
        Endpoint {
            namespace: self.namespace().unwrap_or_default(),
            name: self.name_any(),
            protocol: spec.protocol,
            url: url.into(),
            key: self.key_source(),
            headers: spec.headers.clone(),
            extra_options: spec.extra_options.clone(),
            request_timeout: spec.request_timeout.0,
        }
    }

    /// Where its key is looked for.
    pub fn key_source(&self) -> KeySource {
        let secret = self.spec.api_key_secret_ref.as_ref();
        KeySource::of(secret.map(|secret| (&*secret.name, &*secret.key)), &self.spec.url)
    }

    /// Whether somebody wrote it, not Drover itself.
    pub fn is_by_user(&self) -> bool {
        !self.labels().contains_key(LABEL_APPLIED_BY) || self.labels()[LABEL_APPLIED_BY] != "up"
    }

    /// Whether requests may go there.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn usable(&self) -> Result<(), &str> {
        if self.metadata.deletion_timestamp.is_some() {
            return Err("it is being deleted");
        }
        match self.conditions().iter().find(|condition| condition.type_ == READY) {
            Some(ready) if ready.status == ConditionStatus::True => Ok(()),
            Some(ready) => Err(&ready.message),
            None => Err("it has not been checked yet"),
        }
    }

    /// The models that can be asked for: those of the spec, else those that it lists.
    pub fn offered(&self) -> Vec<ProviderModel> {
        if !self.spec.models.is_empty() {
            return self.spec.models.clone();
        }
        let listed = self.status.iter().flat_map(|status| &status.models);
        listed.map(|name| ProviderModel { name: name.clone(), ..ProviderModel::default() }).collect()
    }

    /// A model of this name, unless it is known that there is none: what goes beyond the list may be there.
    pub fn offer(&self, name: &str) -> Option<ProviderModel> {
        let offered = self.offered();
        let listed = self.status.as_ref().map_or(0, |status| status.model_count);
        let is_complete = !self.spec.models.is_empty() || listed <= offered.len() as i64;
        let found = offered.iter().find(|model| model.name == name).cloned();
        found.or_else(|| (!is_complete).then(|| ProviderModel { name: name.into(), ..ProviderModel::default() }))
    }
}

impl ProviderModel {
    /// What it costs, where both prices are known.
    pub fn price(&self) -> Option<Price> {
        Some(Price {
            input_per_million: self.input_price_per_million?,
            output_per_million: self.output_price_per_million?,
        })
    }
}
