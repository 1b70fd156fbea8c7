//! What is kept of a request: what was asked for, what answered it and with what, and how that went.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{digest::Digest, params::Source, provider::Cost, run_id::RunId};

/// One request's record. `V` is a parameter's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord<V> {
    /// The run, as `x-drover-run-id` names it.
    pub id: RunId,
    /// When the request came.
    pub started_at: Timestamp,
    /// The namespace that its names were looked up in.
    pub namespace: Arc<str>,
    /// Who asked; nobody is known without keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Arc<str>>,
    /// The path that was called, which says in whose format.
    pub path: Cow<'static, str>,
    /// The model as the caller named it.
    pub requested: Arc<str>,
    /// What was to answer, the last one if there were several; nothing when the name stands for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,
    /// Every parameter that took effect, and who set it.
    #[serde(default = "BTreeMap::new", skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Effective<V>>,
    /// Parameters that were asked for, but that the provider has nothing like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped_parameters: Vec<String>,
    /// How long the model was to stay in memory afterwards; nothing left it to the node.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<Effective<V>>,
    /// The version's system prompt, if the model got it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<SystemPrompt>,
    /// The tools that the model was offered, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// Whether the answer had to be JSON or to fit a schema.
    #[serde(default)]
    pub has_format: bool,
    /// Whether the answer was sent piece by piece.
    #[serde(default)]
    pub stream: bool,
    /// What became of it.
    pub outcome: Outcome,
    /// HTTP status of the answer.
    pub status: u16,
    /// Why there was no answer, or no whole one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why the model stopped, in Ollama's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Whether the prompt filled the context window, so that the beginning of it may have been cut.
    #[serde(default)]
    pub truncated: bool,
    /// Tokens read and written.
    #[serde(default)]
    pub tokens: Tokens,
    /// What it cost, where prices are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// What took how long.
    #[serde(default)]
    pub timings: Timings,
    /// The nodes that were asked, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// What was said, where that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<Capture>,
    /// The run that this one repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<RunId>,
    /// What somebody thought of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<Feedback>,
    /// What its session is known by, if its deployment keeps sessions on their side of a rollout: a number that says
    /// nothing of the session's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// The trace that it belongs to, if it belongs to any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Arc<str>>,
}

/// A session's number. Programs that read JSON don't keep so many digits, so it is written as hexadecimal text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Session(pub u64);

impl From<Session> for String {
    fn from(Session(session): Session) -> Self {
        format!("{session:016x}")
    }
}

impl TryFrom<String> for Session {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u64::from_str_radix(&text, 16).map(Self)
    }
}

/// What answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// The tag.
    pub model: Arc<str>,
    /// Its digest on the node.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub digest: Arc<str>,
    /// The version, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Arc<str>>,
    /// The deployment that it was chosen by, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<Arc<str>>,
    /// The node asked last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Arc<str>>,
    /// Why this one.
    pub reason: Arc<str>,
}

/// A parameter as it took effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effective<V> {
    /// Its value.
    pub value: V,
    /// Who set it.
    pub source: Source,
}

/// A version's system prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemPrompt {
    /// Its edition.
    pub version: Arc<str>,
    /// sha256 of its text.
    pub digest: Digest,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It got its whole answer.
    Answered,
    /// The answer broke off in the middle.
    Broken,
    /// The caller hung up.
    Cancelled,
    /// It was refused: the caller's mistake, or none of its business.
    Refused,
    /// No node could answer.
    Failed,
    /// The answer does not fit the schema that was asked for.
    SchemaFailure,
}

/// Numbers of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Read.
    pub prompt: u64,
    /// Written.
    pub completion: u64,
}

/// Milliseconds; what isn't known is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Timings {
    /// Waiting for a place on a node, over all attempts.
    pub queue_ms: f64,
    /// From the request to the first piece of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<f64>,
    /// From the request to the end of the answer.
    pub total_ms: f64,
    /// Loading the model, as the node says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_ms: Option<f64>,
    /// Reading the prompt, as the node says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_ms: Option<f64>,
    /// Writing the answer, as the node says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_ms: Option<f64>,
}

/// One node that was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// The node.
    pub node: Arc<str>,
    /// The version that it was asked for, or the tag.
    pub target: Arc<str>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Until it failed or its answer began.
    pub ms: f64,
}

/// What was said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// The caller's request; `None` when it is longer than what is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The answer as it was sent; `None` when it is longer than what is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// What somebody thought of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// From 0, bad, to 1, good.
    pub score: f64,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Which records are wanted. What isn't set doesn't matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// The tag that was to answer.
    pub model: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Its digest.
    pub digest: Option<String>,
    /// The node asked last.
    pub node: Option<String>,
    /// What became of it.
    pub outcome: Option<Outcome>,
    /// Who asked.
    pub caller: Option<String>,
    /// Started at this moment or later.
    pub since: Option<Timestamp>,
    /// Started before this moment.
    pub until: Option<Timestamp>,
    /// Only what comes after this one in a list, the newest first.
    pub after: Option<RunId>,
    /// Whether what was said is wanted, too: it may be long.
    pub with_capture: bool,
}

impl RunFilter {
    /// The ids that fit: from the first one up to, but without, the second.
    pub fn ids(&self) -> (RunId, RunId) {
        let from = self.since.map_or(RunId(0), RunId::first_at);
        let until = self.until.map_or(RunId(u128::MAX), RunId::first_at);
        (from, self.after.map_or(until, |after| after.min(until)))
    }
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 6] =
        [Self::Answered, Self::Broken, Self::Cancelled, Self::Refused, Self::Failed, Self::SchemaFailure];

    /// Its name, as it is written everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "Answered",
            Self::Broken => "Broken",
            Self::Cancelled => "Cancelled",
            Self::Refused => "Refused",
            Self::Failed => "Failed",
            Self::SchemaFailure => "SchemaFailure",
        }
    }
}
