//! What is told about one request in the headers of its answer.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::routing_table::{Holder, Target};

/// One request, and what became of it.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Unique: 32 hex digits.
    pub id: String,
    /// The tag that answered, or was to.
    pub model: String,
    /// Its digest on the node.
    pub digest: String,
    /// The version, if it is one.
    pub version: String,
    /// The node tried last.
    pub node: String,
    /// How many nodes were tried.
    pub attempts: u32,
    /// Why this model.
    pub reason: String,
    /// Whether the prompt was cut, because it is longer than the context window.
    pub truncated: bool,
    /// Why the answer doesn't keep to the schema that it was checked by.
    pub schema_failure: Option<String>,
}

impl Run {
    /// A run of which nothing is known but a new id.
    pub fn start() -> Self {
        Self { id: format!("{:032x}", rand::random::<u128>()), ..Self::default() }
    }

    /// Notes what shall answer, and why.
    pub fn aim(&mut self, target: &Target, reason: &str) {
        self.model.clone_from(&target.tag);
        self.digest.clone_from(&target.digest);
        self.version = target.version.clone().unwrap_or_default();
        self.reason = reason.into();
        self.node.clear();
    }

    /// Notes an attempt on a node.
    pub fn attempt(&mut self, holder: &Holder) {
        self.attempts += 1;
        self.node.clone_from(&holder.node.name);
        self.digest.clone_from(&holder.digest);
    }

    /// Writes what is known into the headers of an answer.
    pub fn stamp(&self, headers: &mut HeaderMap) {
        let facts = [
            ("x-drover-run-id", &self.id),
            ("x-drover-model", &self.model),
            ("x-drover-digest", &self.digest),
            ("x-drover-version", &self.version),
            ("x-drover-node", &self.node),
            ("x-drover-reason", &self.reason),
        ];
        for (name, text) in facts {
            if let Some(value) = header(text) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        headers.insert(HeaderName::from_static("x-drover-attempts"), HeaderValue::from(self.attempts));
        if let Some(value) = self.schema_failure.as_deref().and_then(header) {
            headers.insert(HeaderName::from_static("x-drover-schema-failure"), value);
        }
        if self.truncated {
            headers.insert(HeaderName::from_static("x-drover-truncated"), HeaderValue::from_static("true"));
        }
    }
}

/// A header's value; what a header can't hold becomes a question mark.
fn header(text: &str) -> Option<HeaderValue> {
    let plain = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    let text: String = text.chars().map(plain).collect();
    if text.is_empty() { None } else { HeaderValue::try_from(text).ok() }
}
