//! What is known of one Ollama server, and why it may not be usable.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One model as a node reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeModel {
    /// The name on the node, for example `llama3.2:3b`.
    pub name: String,
    /// `sha256:<hex>` of the manifest as the node stores it.
    pub digest: String,
    /// Bytes on disk.
    pub size_bytes: i64,
    /// Architecture family, for example `llama`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub family: String,
    /// Parameter count as Ollama prints it, for example `3.2B`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parameter_size: String,
    /// Quantization as Ollama prints it, for example `Q4_K_M`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub quantization: String,
    /// What the model can do, for example `completion`, `tools`, `vision`, `embedding`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// The longest context the model was trained for, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<i64>,
}

/// What one look at a node found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Ollama's version.
    pub version: String,
    /// Every name on the node, Drover's aliases included, without capabilities and context length.
    pub models: Vec<NodeModel>,
    /// Names of the models in memory.
    pub loaded: Vec<String>,
    /// The bytes that each of them takes there.
    pub memory: BTreeMap<String, i64>,
}

/// Why a node could not be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeFault {
    /// Nothing listens there.
    Refused,
    /// No answer in time.
    TimedOut,
    /// The TLS handshake failed.
    Tls,
    /// The server wants a login.
    Unauthorized,
    /// Something answers, but not as Ollama does.
    NotOllama,
    /// The host name is unknown or the network can't be crossed.
    Unreachable,
}

impl ProbeFault {
    /// The CamelCase reason of the `Ready` condition.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Refused => "ConnectionRefused",
            Self::TimedOut => "TimedOut",
            Self::Tls => "TLSFailed",
            Self::Unauthorized => "Unauthorized",
            Self::NotOllama => "NotOllama",
            Self::Unreachable => "Unreachable",
        }
    }

    /// What is wrong and what to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Refused => "connection refused: start `ollama serve` there, or correct spec.url",
            Self::TimedOut => "no answer in time: the machine is down, overloaded or behind a firewall",
            Self::Tls => {
                "the TLS handshake failed: its certificate is not trusted here (node-ca-file names more to trust), or the port speaks plain http"
            }
            Self::Unauthorized => {
                "it asks for a login (HTTP 401 or 403): a proxy stands before it, so point spec.url behind that proxy"
            }
            Self::NotOllama => "it answers, but not as Ollama does: check the port and path in spec.url",
            Self::Unreachable => "the host can't be reached: check the host name in spec.url and the network",
        }
    }
}
