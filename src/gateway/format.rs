//! The formats in which answers are written. A translator of one is pure: Ollama's lines in, the caller's bytes out.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::{
    anthropic::answer::Messages,
    api::Api,
    openai::{
        chat::answer::ChatCompletion,
        completions::Completion,
        embeddings::Embeddings,
        responses::{answer::Responses, echo::Echo},
    },
    said::Said,
    sse::{put_data, put_json},
};
use crate::ports::NodeError;

/// How an answer is written.
#[derive(Clone, Debug)]
pub enum Format {
    /// As Ollama writes it.
    Ollama,
    /// OpenAI's chat completion.
    ChatCompletion {
        /// Whether a stream ends with the token counts.
        include_usage: bool,
    },
    /// OpenAI's completion.
    Completion {
        /// Whether a stream ends with the token counts.
        include_usage: bool,
    },
    /// OpenAI's list of embeddings.
    Embeddings {
        /// Whether the numbers are packed.
        base64: bool,
    },
    /// OpenAI's response, which repeats the request.
    Response(Arc<Echo>),
    /// Anthropic's message.
    Message,
}

/// What is the same in every piece of one answer.
#[derive(Clone, Debug)]
pub struct Head {
    /// The run's id, of which the answer's is made.
    pub run: String,
    /// Seconds since 1970.
    pub created: i64,
    /// The tag that answers.
    pub model: String,
    /// Stands for the weights that answer.
    pub fingerprint: String,
}

/// Writes one answer in another format than Ollama's.
pub trait Translator: Send + Sync {
    /// Writes the events for one line.
    ///
    /// # Errors
    /// That the line can't be told in this format. Nothing is written then.
    fn line(&mut self, said: &Said<'_>, out: &mut BytesMut) -> Result<(), NodeError>;

    /// Ends the events; false when the answer isn't whole.
    fn end(&mut self, out: &mut BytesMut) -> bool;

    /// A whole answer.
    ///
    /// # Errors
    /// The node's own error, or that this is not a whole answer.
    fn whole(&self, answer: &[u8]) -> Result<Bytes, NodeError>;

    /// Ends events that can't go on.
    fn fail(&mut self, error: &Value, out: &mut BytesMut) {
        put_data(out, |out| put_json(out, error));
    }
}

impl Format {
    /// The API that it belongs to.
    pub fn api(&self) -> Api {
        match self {
            Self::Ollama => Api::Ollama,
            Self::Message => Api::Anthropic,
            _ => Api::OpenAi,
        }
    }

    /// Who writes an answer with this head; `None` for Ollama's own words.
    pub fn translator(&self, head: impl FnOnce() -> Head) -> Option<Box<dyn Translator>> {
        Some(match self {
            Self::Ollama => return None,
            Self::ChatCompletion { include_usage } => Box::new(ChatCompletion::new(head(), *include_usage)),
            Self::Completion { include_usage } => Box::new(Completion::new(head(), *include_usage)),
            Self::Embeddings { base64 } => Box::new(Embeddings::new(head().model, *base64)),
            Self::Response(echo) => Box::new(Responses::new(head(), echo.clone())),
            Self::Message => Box::new(Messages::new(head())),
        })
    }
}
