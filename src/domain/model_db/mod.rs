//! What is known of models by their names: family, context, capabilities, size. What a node says of a model it has
//! counts more.

mod builtin;
mod capability;
mod catalogue;
mod defaults;
mod family;
mod size;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    capability::{Capabilities, Capability},
    catalogue::{Catalogue, Conflict, Layer, WithOptions},
    defaults::{Defaults, FAST, check_word},
    family::{family, guessed, last_part},
    size::{Parameters, SizeClass, bits},
};
use super::node::NodeModel;

/// The longest context of models that nobody knows, in tokens: what Ollama gives them.
pub const USUAL_CONTEXT: u64 = 4096;

/// What is said of the models that a pattern fits. What isn't set is left to less specific patterns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The models: `ours-*:*`, `llama3.2` with any tag, `team/bot:7b*`. Without a slash, the namespace doesn't matter.
    #[schemars(length(min = 1, max = 253))]
    pub pattern: String,
    /// Whose kind they are, such as `llama`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub family: Option<String>,
    /// The longest context, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub context_length: Option<u32>,
    /// The most tokens that one answer may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_output_tokens: Option<u32>,
    /// What they can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 7))]
    pub capabilities: Option<Vec<Capability>>,
    /// How many parameters they have, such as `8B`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Parameters>,
    /// Words to find them by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)))]
    pub tags: Vec<String>,
}

/// What is known of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Known<V> {
    /// Whose kind it is; empty where nobody can tell.
    pub family: String,
    /// The longest context, in tokens.
    pub context_length: u64,
    /// The most tokens that one answer may have.
    pub max_output_tokens: Option<u32>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// How many parameters it has.
    pub parameters: Option<Parameters>,
    /// Bits per weight.
    pub bits: Option<u8>,
    /// Options that it is called with where nobody says another value.
    pub options: BTreeMap<String, V>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// The most specific pattern that fits it.
    pub pattern: Option<String>,
}

impl<V> Default for Known<V> {
    fn default() -> Self {
        Self {
            family: String::new(),
            context_length: 0,
            max_output_tokens: None,
            capabilities: Capabilities::NONE,
            parameters: None,
            bits: None,
            options: BTreeMap::new(),
            tags: Vec::new(),
            pattern: None,
        }
    }
}

impl<V> Known<V> {
    /// With what a server says of the model, which counts more. Whether it is made for code, servers don't say.
    pub fn with_facts(mut self, facts: &NodeModel) -> Self {
        if !facts.capabilities.is_empty() {
            let code = self.capabilities.in_both(Capabilities::of(&[Capability::Code]));
            let said = Capabilities::of_server(&facts.capabilities);
            self.capabilities = if said.has(Capability::Embedding) { said } else { said.and(code) };
        }
        if let Some(length) = facts.context_length.and_then(|length| u64::try_from(length).ok()).filter(|l| *l > 0) {
            self.context_length = length;
        }
        if self.family.is_empty() {
            self.family.clone_from(&facts.family);
        }
        self.parameters = facts.parameter_size.parse().ok().or(self.parameters);
        self.bits = bits(&facts.quantization).or(self.bits);
        self
    }
}
