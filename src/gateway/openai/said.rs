//! What Ollama says, read for translation.

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::ports::NodeError;

/// One line of an answer, or all of one.
#[derive(Deserialize)]
pub struct Said {
    /// What the model says.
    pub message: Option<Message>,
    /// Whether that was all.
    #[serde(default)]
    pub done: bool,
    done_reason: Option<String>,
    #[serde(default)]
    prompt_eval_count: u64,
    #[serde(default)]
    eval_count: u64,
    error: Option<Value>,
}

/// What the model says.
#[derive(Default, Deserialize)]
pub struct Message {
    /// Text for the caller.
    #[serde(default)]
    pub content: String,
    /// Text of a model that thinks aloud.
    #[serde(default)]
    pub thinking: String,
    /// Tools that it wants called.
    #[serde(default)]
    pub tool_calls: Vec<Call>,
}

/// A tool that the model wants called.
#[derive(Deserialize)]
pub struct Call {
    /// Older servers give none.
    pub id: Option<String>,
    /// The tool and what it is called with.
    pub function: Function,
}

/// A function by name, with its arguments as a JSON object.
#[derive(Deserialize)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub arguments: Box<RawValue>,
}

/// Token counts as OpenAI writes them.
#[derive(Serialize)]
pub struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

impl Said {
    /// Reads one JSON object.
    ///
    /// # Errors
    /// The node's own error, or that this is none of Ollama's objects.
    pub fn read(json: &[u8]) -> Result<Self, NodeError> {
        // Without the parser's own words, which could quote the answer.
        let said: Self =
            serde_json::from_slice(json).map_err(|_| NodeError::Broken("the answer is not JSON".into()))?;
        match said.error {
            None => Ok(said),
            Some(Value::String(message)) => Err(NodeError::Status { status: 500, message }),
            Some(other) => Err(NodeError::Status { status: 500, message: other.to_string() }),
        }
    }

    /// Why the model stopped, in OpenAI's words.
    pub fn finish_reason(&self, has_called: bool) -> &'static str {
        match self.done_reason.as_deref() {
            _ if has_called => "tool_calls",
            Some("length") => "length",
            _ => "stop",
        }
    }

    /// The tokens read and written.
    pub fn usage(&self) -> Usage {
        let (prompt_tokens, completion_tokens) = (self.prompt_eval_count, self.eval_count);
        Usage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }
}
