//! One provider as requests are sent to it.

use std::{collections::BTreeMap, fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::known_at;

/// What a provider speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// OpenAI's API: chat completions, embeddings, models.
    #[default]
    OpenAI,
    /// Anthropic's Messages API.
    Anthropic,
}

/// Where a provider's key is found.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum KeySource {
    /// Nowhere: the provider asks for none.
    #[default]
    None,
    /// In a Secret of the provider's namespace.
    Secret {
        /// The Secret's name.
        name: String,
        /// The key in it.
        key: String,
    },
    /// In a variable of the process's environment.
    Environment(String),
}

impl KeySource {
    /// Where the key is: in the Secret that is named; else, for a provider that is known by its URL, in the usual variable.
    /// An object with another URL never gets a key from the environment, which belongs to whoever started the process.
    pub fn of(secret: Option<(&str, &str)>, url: &str) -> Self {
        match (secret, known_at(url)) {
            (Some((name, key)), _) => Self::Secret { name: name.into(), key: key.into() },
            (None, Some(known)) => Self::Environment(known.variable.into()),
            (None, None) => Self::None,
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Secret { name, key } => write!(f, "Secret {name}, key {key}"),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
        }
    }
}

/// How a provider came to be there, and whether it can be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Origin {
    /// An object names a Secret for the key of a provider that Drover knows.
    Declared,
    /// An object is for a server that Drover doesn't know.
    #[default]
    Custom,
    /// An object is for a provider that Drover knows, and leaves the key to the environment, which has it.
    FromEnvironment,
    /// Nobody wrote an object, but the environment has the key of a provider that Drover knows.
    CataloguedWithKey,
    /// Drover knows the provider, but there is no key for it.
    CataloguedWithoutKey,
}

/// Which of the five cases a provider is. `by_user`: whether somebody wrote its object. `has_key`: whether the environment
/// has its key.
pub fn origin(url: &str, source: &KeySource, by_user: bool, has_key: bool) -> Origin {
    match source {
        _ if known_at(url).is_none() => Origin::Custom,
        KeySource::Secret { .. } => Origin::Declared,
        _ if !has_key => Origin::CataloguedWithoutKey,
        _ if by_user => Origin::FromEnvironment,
        _ => Origin::CataloguedWithKey,
    }
}

/// Everything that it takes to reach a provider, but for its key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// The base URL, without a slash at its end.
    pub url: String,
    /// Where its key is.
    pub key: KeySource,
    /// Headers for every request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Options beyond its protocol that it takes by Ollama's names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_options: Vec<String>,
    /// How long it may take until its answer begins.
    pub request_timeout: Duration,
}

/// The name of a provider's model in requests and answers.
pub fn tag(provider: &str, model: &str) -> String {
    format!("{}/{model}", node_name(provider))
}

/// Whose server answers for this tag: the provider that it names, else `ollama`.
pub fn provider_of(tag: &str) -> &str {
    let named = tag.strip_prefix("provider/").and_then(|rest| rest.split_once('/'));
    named.map_or("ollama", |(provider, _)| provider)
}

/// The name of a provider where nodes have theirs.
pub fn node_name(provider: &str) -> String {
    format!("provider/{provider}")
}
