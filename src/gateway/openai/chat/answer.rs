//! Ollama's answers as chat completions, whole and as server-sent events.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

use crate::{
    gateway::{
        format::{Head, Translator},
        openai::events::{Envelope, Usage, finish_reason, put_done},
        said::{Call, Said},
        sse::put_json,
    },
    ports::NodeError,
};

/// Writes one chat completion.
#[derive(Clone, Debug)]
pub struct ChatCompletion {
    head: Head,
    /// Set once there is something to write into it.
    chunk: Option<Envelope>,
    include_usage: bool,
    tool_calls: usize,
    is_begun: bool,
    is_done: bool,
}

#[derive(Serialize)]
struct WrittenCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    id: String,
    r#type: &'static str,
    function: WrittenFunction<'a>,
}

#[derive(Serialize)]
struct WrittenFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl ChatCompletion {
    /// For one answer.
    pub fn new(head: Head, include_usage: bool) -> Self {
        Self { head, chunk: None, include_usage, tool_calls: 0, is_begun: false, is_done: false }
    }

    fn chunk(&mut self) -> &Envelope {
        self.chunk.get_or_insert_with(|| Envelope::new(&self.head, "chatcmpl", "chat.completion.chunk"))
    }

    fn call<'a>(&self, index: usize, call: &'a Call<'_>, is_piece: bool) -> WrittenCall<'a> {
        WrittenCall {
            index: is_piece.then_some(index),
            id: call.id(&self.head.run, index),
            r#type: "function",
            function: WrittenFunction { name: &call.function.name, arguments: call.function.arguments.get() },
        }
    }

    fn piece(&mut self, said: &Said<'_>, out: &mut BytesMut) {
        let (message, calls) = (said.message(), said.calls());
        let says = !message.content.is_empty() || !message.thinking.is_empty();
        if self.is_begun && !says && calls.is_empty() && said.logprobs.is_none() {
            return;
        }
        let first = self.tool_calls;
        let written: Vec<_> = calls.iter().enumerate().map(|(i, call)| self.call(first + i, call, true)).collect();
        let role = if self.is_begun { "" } else { "\"role\":\"assistant\"," };
        self.chunk().put_event(out, |out| {
            put(out, &["{\"index\":0,\"delta\":{", role, "\"content\":", message.content.json()]);
            put_more(out, message.thinking.json(), &written);
            put(out, &["}"]);
            put_logprobs(out, said);
            put(out, &[",\"finish_reason\":null}"]);
        });
        self.is_begun = true;
        self.tool_calls += calls.len();
    }
}

impl Translator for ChatCompletion {
    fn line(&mut self, said: &Said<'_>, out: &mut BytesMut) -> Result<(), NodeError> {
        if self.is_done {
            return Ok(());
        }
        self.piece(said, out);
        if said.done {
            self.is_done = true;
            let reason = finish_reason(said, self.tool_calls > 0);
            self.chunk().put_event(out, |out| {
                put(out, &["{\"index\":0,\"delta\":{},\"finish_reason\":\"", reason, "\"}"]);
            });
            if self.include_usage {
                self.chunk().put_usage(out, Usage::of(said));
            }
        }
        Ok(())
    }

    fn end(&mut self, out: &mut BytesMut) -> bool {
        if self.is_done {
            put_done(out);
        }
        self.is_done
    }

    fn whole(&self, answer: &[u8]) -> Result<Bytes, NodeError> {
        let said = Said::read_whole(answer)?;
        let (message, calls) = (said.message(), said.calls());
        let written: Vec<_> = calls.iter().enumerate().map(|(i, call)| self.call(i, call, false)).collect();
        let is_silent = message.content.is_empty() && !calls.is_empty();
        let content = if is_silent { "null" } else { message.content.json() };
        let mut out = BytesMut::with_capacity(answer.len() + 256);
        let choice = |out: &mut BytesMut| {
            put(out, &["{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":", content]);
            put_more(out, message.thinking.json(), &written);
            put(out, &["}"]);
            put_logprobs(out, &said);
            put(out, &[",\"finish_reason\":\"", finish_reason(&said, !calls.is_empty()), "\"}"]);
        };
        Envelope::new(&self.head, "chatcmpl", "chat.completion").put(&mut out, choice, Some(Usage::of(&said)));
        Ok(out.freeze())
    }
}

fn put(out: &mut BytesMut, parts: &[&str]) {
    parts.iter().for_each(|part| out.put(part.as_bytes()));
}

fn put_more(out: &mut BytesMut, thinking: &str, calls: &[WrittenCall<'_>]) {
    if thinking != "\"\"" {
        put(out, &[",\"reasoning\":", thinking]);
    }
    if !calls.is_empty() {
        put(out, &[",\"tool_calls\":"]);
        put_json(out, calls);
    }
}

fn put_logprobs(out: &mut BytesMut, said: &Said<'_>) {
    if let Some(logprobs) = said.logprobs {
        // Between values a carriage return is nothing to JSON, and the end of a line to events.
        put(out, &[",\"logprobs\":{\"content\":", &logprobs.get().replace('\r', " "), "}"]);
    }
}
