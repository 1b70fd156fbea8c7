//! Ollama's answers as chat completions, whole and as server-sent events.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

use super::said::{Call, Said, Usage};
use crate::ports::NodeError;

/// What is the same in every piece of one answer.
#[derive(Clone, Debug)]
pub struct Head {
    /// `chatcmpl-…`.
    pub id: String,
    /// Seconds since 1970.
    pub created: i64,
    /// The tag that answers.
    pub model: String,
    /// Stands for the weights that answer.
    pub system_fingerprint: String,
}

/// Writes an answer's events.
#[derive(Clone, Debug)]
pub struct Chunks {
    head: Head,
    include_usage: bool,
    tool_calls: usize,
    is_begun: bool,
    is_done: bool,
}

#[derive(Serialize)]
struct Envelope<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    system_fingerprint: &'a str,
    choices: Vec<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Choice {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Written>,
    finish_reason: Option<&'static str>,
}

/// A message, or the part of one that is new.
#[derive(Default, Serialize)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Option<String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<WrittenCall>,
}

#[derive(Serialize)]
struct WrittenCall {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    id: String,
    r#type: &'static str,
    function: WrittenFunction,
}

#[derive(Serialize)]
struct WrittenFunction {
    name: String,
    arguments: String,
}

impl Head {
    fn call(&self, index: usize, call: Call, is_piece: bool) -> WrittenCall {
        let id = call.id.filter(|id| !id.is_empty());
        WrittenCall {
            index: is_piece.then_some(index),
            id: id.unwrap_or_else(|| format!("call_{}_{index}", self.id.trim_start_matches("chatcmpl-"))),
            r#type: "function",
            function: WrittenFunction { name: call.function.name, arguments: call.function.arguments.get().into() },
        }
    }

    fn write(&self, object: &'static str, choices: Vec<Choice>, usage: Option<Usage>) -> Result<Vec<u8>, NodeError> {
        let (id, model, system_fingerprint) = (&*self.id, &*self.model, &*self.system_fingerprint);
        let envelope = Envelope { id, object, created: self.created, model, system_fingerprint, choices, usage };
        serde_json::to_vec(&envelope).map_err(|error| NodeError::Broken(error.to_string()))
    }
}

/// A whole answer as a `chat.completion`.
///
/// # Errors
/// The node's own error, or that this is not a whole answer.
pub fn completion(head: &Head, answer: &[u8]) -> Result<Bytes, NodeError> {
    let mut said = Said::read(answer)?;
    let Some(message) = said.message.take().filter(|_| said.done) else {
        return Err(NodeError::Broken("the answer is not whole".into()));
    };
    let calls: Vec<_> = message.tool_calls.into_iter().enumerate().map(|(i, call)| head.call(i, call, false)).collect();
    let finish_reason = Some(said.finish_reason(!calls.is_empty()));
    let is_silent = message.content.is_empty() && !calls.is_empty();
    let written = Written {
        role: Some("assistant"),
        content: Some((!is_silent).then_some(message.content)),
        reasoning: message.thinking,
        tool_calls: calls,
    };
    let choice = Choice { index: 0, message: Some(written), delta: None, finish_reason };
    head.write("chat.completion", vec![choice], Some(said.usage())).map(Bytes::from)
}

impl Chunks {
    /// For one answer.
    pub fn new(head: Head, include_usage: bool) -> Self {
        Self { head, include_usage, tool_calls: 0, is_begun: false, is_done: false }
    }

    /// What is the same in every piece.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Writes the events for one line of Ollama's answer.
    ///
    /// # Errors
    /// The node's own error, or that the line is none of Ollama's.
    pub fn line(&mut self, line: &[u8], out: &mut BytesMut) -> Result<(), NodeError> {
        let mut said = Said::read(line)?;
        if self.is_done {
            return Ok(());
        }
        let message = said.message.take().unwrap_or_default();
        let calls = message.tool_calls.into_iter().map(|call| {
            self.tool_calls += 1;
            self.head.call(self.tool_calls - 1, call, true)
        });
        let delta = Written {
            role: None,
            content: Some(Some(message.content)),
            reasoning: message.thinking,
            tool_calls: calls.collect(),
        };
        let says =
            delta.content != Some(Some(String::new())) || !delta.reasoning.is_empty() || !delta.tool_calls.is_empty();
        if says || !self.is_begun {
            let role = (!self.is_begun).then_some("assistant");
            self.is_begun = true;
            self.event(Written { role, ..delta }, None, out)?;
        }
        if said.done {
            self.is_done = true;
            self.event(Written::default(), Some(said.finish_reason(self.tool_calls > 0)), out)?;
            if self.include_usage {
                put(out, &self.head.write("chat.completion.chunk", Vec::new(), Some(said.usage()))?);
            }
        }
        Ok(())
    }

    /// Writes the end mark; false when the answer isn't whole.
    pub fn end(&self, out: &mut BytesMut) -> bool {
        if self.is_done {
            put(out, b"[DONE]");
        }
        self.is_done
    }

    fn event(&self, delta: Written, finish_reason: Option<&'static str>, out: &mut BytesMut) -> Result<(), NodeError> {
        let choice = Choice { index: 0, message: None, delta: Some(delta), finish_reason };
        put(out, &self.head.write("chat.completion.chunk", vec![choice], None)?);
        Ok(())
    }
}

fn put(out: &mut BytesMut, event: &[u8]) {
    out.put(&b"data: "[..]);
    out.put(event);
    out.put(&b"\n\n"[..]);
}
