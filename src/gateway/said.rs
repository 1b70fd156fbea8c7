//! What a node says, read for translation: texts stay as they were written.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Value, value::RawValue};

use crate::ports::NodeError;

/// One line of an answer, or all of one.
#[derive(Deserialize)]
pub struct Said<'a> {
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    response: Option<Text<'a>>,
    #[serde(borrow)]
    thinking: Option<Text<'a>>,
    /// Whether that was all.
    #[serde(default)]
    pub done: bool,
    #[serde(borrow)]
    done_reason: Option<Cow<'a, str>>,
    /// Tokens read.
    #[serde(default)]
    pub prompt_eval_count: u64,
    /// Tokens written.
    #[serde(default)]
    pub eval_count: u64,
    /// How likely each token was, in Ollama's words, which are OpenAI's.
    #[serde(borrow)]
    pub logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// What the model says.
#[derive(Default, Deserialize)]
pub struct Message<'a> {
    /// Text for the caller.
    #[serde(borrow, default)]
    pub content: Text<'a>,
    /// Text of a model that thinks aloud.
    #[serde(borrow, default)]
    pub thinking: Text<'a>,
    #[serde(borrow)]
    tool_calls: Option<Vec<Call<'a>>>,
}

/// A tool that the model wants called.
#[derive(Deserialize)]
pub struct Call<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    /// The tool and what it is called with.
    #[serde(borrow)]
    pub function: Function<'a>,
}

/// A function by name, with its arguments as a JSON object.
#[derive(Deserialize)]
pub struct Function<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// Its arguments.
    #[serde(borrow)]
    pub arguments: &'a RawValue,
}

/// A JSON string as it was written.
#[derive(Clone, Copy)]
pub struct Text<'a>(&'a str);

impl Default for Text<'_> {
    fn default() -> Self {
        Self("\"\"")
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = <&RawValue>::deserialize(deserializer)?.get();
        if written.starts_with('"') { Ok(Self(written)) } else { Err(D::Error::custom("not a string")) }
    }
}

impl Text<'_> {
    /// With its quotes.
    pub fn json(&self) -> &str {
        self.0
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.0.len() == 2
    }

    /// What it says. A text with half a character in it, which no string can hold, says nothing.
    pub fn decode(&self) -> String {
        serde_json::from_str(self.0).unwrap_or_default()
    }
}

impl Call<'_> {
    /// Its id; older servers give none, then it is made of the answer's id and the call's place in it.
    pub fn id(&self, answer: &str, index: usize) -> String {
        let own = self.id.as_deref().filter(|id| !id.is_empty());
        own.map_or_else(|| format!("call_{answer}_{index}"), str::to_owned)
    }
}

impl<'a> Said<'a> {
    /// Reads one JSON object.
    ///
    /// # Errors
    /// The node's own error, or that this is none of Ollama's objects.
    pub fn read(json: &'a [u8]) -> Result<Self, NodeError> {
        // Without the parser's own words, which could quote the answer.
        let said: Self =
            serde_json::from_slice(json).map_err(|_| NodeError::Broken("the answer is not JSON".into()))?;
        let Some(error) = said.error else { return Ok(said) };
        let message = match serde_json::from_str(error.get()) {
            Ok(Value::String(message)) => message,
            _ => error.get().to_owned(),
        };
        Err(NodeError::Status { status: 500, message })
    }

    /// Reads a whole answer. Where Ollama stopped a model that repeated itself, it doesn't say that it is done.
    ///
    /// # Errors
    /// As for a line, or that nothing is said.
    pub fn read_whole(json: &'a [u8]) -> Result<Self, NodeError> {
        let said = Self { done: true, ..Self::read(json)? };
        let says = said.message.is_some() || said.response.is_some();
        if says { Ok(said) } else { Err(NodeError::Broken("the answer is not whole".into())) }
    }

    /// What the model says, in a chat or not.
    pub fn message(&self) -> Message<'_> {
        match &self.message {
            Some(Message { content, thinking, .. }) => {
                Message { content: *content, thinking: *thinking, tool_calls: None }
            }
            None => Message {
                content: self.response.unwrap_or_default(),
                thinking: self.thinking.unwrap_or_default(),
                tool_calls: None,
            },
        }
    }

    /// The tools that the model wants called.
    pub fn calls(&self) -> &[Call<'a>] {
        self.message.as_ref().and_then(|message| message.tool_calls.as_deref()).unwrap_or_default()
    }

    /// Whether the model says nothing to the caller and calls no tool, though it was asked for more than to be loaded.
    pub fn is_silent(&self) -> bool {
        let is_load = matches!(self.done_reason.as_deref(), Some("load" | "unload"));
        !is_load && self.calls().is_empty() && self.message().content.is_empty()
    }

    /// Whether the answer ended because it got too long.
    pub fn is_cut(&self) -> bool {
        self.done_reason.as_deref() == Some("length")
    }
}
