//! A whole message as Ollama's answer; and what its parts have in common with streamed ones.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::{
    native::{End, Function, Said, ToolCall, Writer},
    openai::words,
};

/// A part of a message's content.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    /// Text for the caller.
    Text {
        /// The text.
        text: String,
    },
    /// Text of a model that thinks aloud.
    Thinking {
        /// The text.
        thinking: String,
    },
    /// A tool that the model wants called.
    ToolUse {
        /// The call's id.
        id: String,
        /// The tool.
        name: String,
        /// Its arguments; in a stream they come later.
        #[serde(default)]
        input: Map<String, Value>,
    },
    /// What Ollama's API has no place for.
    #[serde(other)]
    Other,
}

/// Numbers of tokens; of the prompt, those from the cache are counted apart.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Usage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
}

impl Usage {
    /// With what was told later in the place of what was told before.
    pub fn then(self, later: Self) -> Self {
        Self {
            input_tokens: later.input_tokens.or(self.input_tokens),
            output_tokens: later.output_tokens.or(self.output_tokens),
            cache_read_input_tokens: later.cache_read_input_tokens.or(self.cache_read_input_tokens),
            cache_creation_input_tokens: later.cache_creation_input_tokens.or(self.cache_creation_input_tokens),
        }
    }

    /// How an answer with this `stop_reason` ended, in Ollama's words where it has some.
    pub fn end(self, stop_reason: &str) -> End {
        let reason = match stop_reason {
            "end_turn" | "stop_sequence" | "tool_use" => "stop",
            "max_tokens" | "model_context_window_exceeded" => "length",
            other => other,
        };
        let read = [self.input_tokens, self.cache_read_input_tokens, self.cache_creation_input_tokens];
        End {
            reason: reason.into(),
            prompt: read.into_iter().flatten().sum(),
            completion: self.output_tokens.unwrap_or_default(),
        }
    }
}

impl Said {
    /// Adds a part.
    pub fn add(&mut self, block: Block) {
        match block {
            Block::Text { text } => self.content += &text,
            Block::Thinking { thinking } => self.thinking += &thinking,
            Block::ToolUse { id, name, input: arguments } => {
                let index = Some(self.calls.len());
                self.calls.push(ToolCall { id, function: Function { index, name, arguments } });
            }
            Block::Other => {}
        }
    }
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Vec<Block>,
    stop_reason: Option<String>,
    #[serde(default)]
    usage: Usage,
    error: Option<Value>,
}

/// Translates a whole answer.
///
/// # Errors
/// The provider's own words, or that this is no answer.
pub fn whole(answer: &[u8], writer: &Writer, out: &mut Vec<u8>) -> Result<(), String> {
    let message: Message =
        serde_json::from_slice(answer).map_err(|_| "the provider's answer is no message".to_owned())?;
    if let Some(error) = &message.error {
        return Err(words(error));
    }
    let reason = message.stop_reason.ok_or("the provider's answer is not whole")?;
    let mut said = Said::default();
    message.content.into_iter().for_each(|block| said.add(block));
    writer.line(&said, Some(&message.usage.end(&reason)), out);
    Ok(())
}
