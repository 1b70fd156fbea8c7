//! A node's stream as whole lines, and each line with the name that people know the model by.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde_json::Value;

use super::fields::{Fields, json};
use crate::{
    domain::{alias::is_alias, model_name::DEFAULT_HOST},
    ports::NodeError,
};

/// The longest line a node may send, in bytes.
pub const LONGEST: usize = 64 << 20;

/// How much is told of an error that isn't Ollama's, in characters: a proxy may answer with a whole page.
const LONGEST_QUOTE: usize = 300;

/// A node said something that is not Ollama's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line longer than {LONGEST} bytes")]
pub struct TooLong;

/// Joins the chunks of a stream and cuts them into lines.
#[derive(Debug, Default)]
pub struct Lines {
    /// The beginning of a line whose end has not come yet.
    partial: BytesMut,
}

impl Lines {
    /// The lines that `chunk` completes, without their line ends; empty ones are left out.
    ///
    /// # Errors
    /// When a line gets longer than [`LONGEST`].
    pub fn push(&mut self, mut chunk: Bytes) -> Result<Vec<Bytes>, TooLong> {
        let mut lines = Vec::new();
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            let mut line = chunk.split_to(end);
            chunk.advance(1);
            if !self.partial.is_empty() {
                self.partial.put(line);
                line = self.partial.split().freeze();
            }
            if !line.trim_ascii().is_empty() {
                lines.push(line);
            }
        }
        self.partial.put(chunk);
        if self.partial.len() > LONGEST { Err(TooLong) } else { Ok(lines) }
    }

    /// What came after the last line end.
    pub fn rest(&mut self) -> Option<Bytes> {
        Some(self.partial.split().freeze()).filter(|line| !line.trim_ascii().is_empty())
    }
}

/// Puts the tag that people know in the place of the name that a node was called with.
#[derive(Clone, Debug)]
pub struct Renamer {
    called: String,
    tag: String,
    /// How Ollama begins an answer to that name.
    before: Bytes,
    after: Bytes,
}

impl Renamer {
    /// For answers of a node that was asked for `called`, known to people as `tag`.
    pub fn new(called: &str, tag: &str) -> Self {
        let opening = |name: &str| [b"{\"model\":", &json(name)[..]].concat().into();
        Self { called: called.into(), tag: tag.into(), before: opening(called), after: opening(tag) }
    }

    /// Writes one JSON object of an answer with its `model` replaced.
    ///
    /// # Errors
    /// The node's own error, or that this is no JSON object. Nothing is written then.
    pub fn object(&self, object: &[u8], out: &mut BytesMut) -> Result<(), NodeError> {
        if let Some(rest) = object.strip_prefix(&self.before[..]) {
            out.put(&self.after[..]);
            out.put(rest);
            return Ok(());
        }
        let mut fields = Fields::parse(&Bytes::copy_from_slice(object)).map_err(not_json)?;
        if let Some(error) = fields.get("error") {
            return Err(NodeError::Status { status: 500, message: self.message(error) });
        }
        if fields.get("model").is_some() {
            fields.set("model", json(&*self.tag));
        }
        out.put(fields.write(&[]));
        Ok(())
    }

    /// A text with the tag in place of the node's name. A provider's name for a model hides nothing, and may be part of
    /// any word.
    pub fn text(&self, text: &str) -> String {
        if self.called != self.tag && !is_alias(&self.called) {
            return text.to_owned();
        }
        text.replace(&format!("{DEFAULT_HOST}/{}", self.called), &self.tag).replace(&self.called, &self.tag)
    }

    /// A node's error without the name it was called with.
    pub fn hide(&self, error: NodeError) -> NodeError {
        match error {
            NodeError::Status { status, message } => NodeError::Status { status, message: self.text(&message) },
            NodeError::Throttled { status, message, retry_after } => {
                NodeError::Throttled { status, message: self.text(&message), retry_after }
            }
            other => other,
        }
    }

    /// The message of an answer with an error status.
    pub fn error(&self, body: &Bytes) -> String {
        match Fields::parse(body) {
            Ok(fields) => fields.get("error").map_or_else(|| "no reason given".into(), |error| self.message(error)),
            Err(_) => {
                let page = self.text(String::from_utf8_lossy(body).trim());
                page.chars().take(LONGEST_QUOTE).collect()
            }
        }
    }

    fn message(&self, error: &[u8]) -> String {
        match serde_json::from_slice(error) {
            Ok(Value::String(message)) => self.text(&message),
            _ => self.text(&String::from_utf8_lossy(error)),
        }
    }
}

fn not_json(_: serde_json::Error) -> NodeError {
    // Without the parser's own words, which could quote the answer.
    NodeError::Broken("the answer is not JSON".into())
}
