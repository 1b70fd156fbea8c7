//! Ollama's answers as responses, whole and as server-sent events.

use std::{mem, sync::Arc};

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json as object};

use super::echo::Echo;
use crate::{
    gateway::{
        format::{Head, Translator},
        said::{Call, Said},
        sse::{put_event, put_json},
    },
    ports::NodeError,
};

/// Writes one response.
#[derive(Clone, Debug)]
pub struct Responses {
    head: Head,
    echo: Arc<Echo>,
    sequence: u64,
    /// The item being written.
    open: Option<Item>,
    /// The items that are complete.
    output: Vec<Value>,
    calls: usize,
    is_begun: bool,
    is_done: bool,
}

/// A text that grows.
#[derive(Clone, Debug)]
struct Item {
    kind: Kind,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Reasoning,
    Message,
}

impl Responses {
    /// For one answer.
    pub fn new(head: Head, echo: Arc<Echo>) -> Self {
        Self { head, echo, sequence: 0, open: None, output: Vec::new(), calls: 0, is_begun: false, is_done: false }
    }

    /// The response with these items; `ended` is what the node said last.
    fn response(&self, output: &[Value], ended: Option<&Said<'_>>) -> Value {
        let status = match ended {
            None => "in_progress",
            Some(said) if said.is_cut() => "incomplete",
            Some(_) => "completed",
        };
        let details = (status == "incomplete").then(|| object!({ "reason": "max_output_tokens" }));
        self.echo.response(object!({
            "id": format!("resp_{}", self.head.run), "created_at": self.head.created, "status": status,
            "completed_at": ended.filter(|said| !said.is_cut()).map(|_| self.head.created),
            "incomplete_details": details, "model": self.head.model, "output": output, "usage": ended.map(usage),
        }))
    }

    fn event(&mut self, out: &mut BytesMut, name: &str, mut data: Value) {
        data["type"] = name.into();
        data["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        put_event(out, name, &data);
    }

    /// The id of the item that comes next.
    fn id(&self, kind: &str) -> String {
        format!("{kind}_{}_{}", self.head.run, self.output.len())
    }

    fn begin(&mut self, out: &mut BytesMut) {
        if !mem::replace(&mut self.is_begun, true) {
            for name in ["response.created", "response.in_progress"] {
                let response = self.response(&[], None);
                self.event(out, name, object!({ "response": response }));
            }
        }
    }

    fn say(&mut self, kind: Kind, text: &str, out: &mut BytesMut) {
        if text.is_empty() {
            return;
        }
        if self.open.as_ref().is_none_or(|open| open.kind != kind) {
            self.close(out);
            self.start(kind, out);
        }
        if let Some(open) = &mut self.open {
            open.text.push_str(text);
        }
        let (index, id) = (self.output.len(), self.id(kind.prefix()));
        let (name, data) = match kind {
            Kind::Reasoning => (
                "response.reasoning_summary_text.delta",
                object!({ "item_id": id, "output_index": index, "summary_index": 0, "delta": text }),
            ),
            Kind::Message => (
                "response.output_text.delta",
                object!({ "item_id": id, "output_index": index, "content_index": 0, "delta": text, "logprobs": [] }),
            ),
        };
        self.event(out, name, data);
    }

    fn start(&mut self, kind: Kind, out: &mut BytesMut) {
        let (index, id) = (self.output.len(), self.id(kind.prefix()));
        let item = match kind {
            Kind::Reasoning => object!({ "id": id, "type": "reasoning", "summary": [] }),
            Kind::Message => {
                object!({ "id": id, "type": "message", "status": "in_progress", "role": "assistant", "content": [] })
            }
        };
        self.event(out, "response.output_item.added", object!({ "output_index": index, "item": item }));
        let (name, place, part) = match kind {
            Kind::Reasoning => ("response.reasoning_summary_part.added", "summary_index", summary("")),
            Kind::Message => ("response.content_part.added", "content_index", output_text("")),
        };
        self.event(out, name, object!({ "item_id": id, "output_index": index, place: 0, "part": part }));
        self.open = Some(Item { kind, text: String::new() });
    }

    /// Ends the item being written.
    fn close(&mut self, out: &mut BytesMut) {
        let Some(Item { kind, text }) = self.open.take() else { return };
        let (index, id) = (self.output.len(), self.id(kind.prefix()));
        let (place, part, names) = match kind {
            Kind::Reasoning => (
                "summary_index",
                summary(&text),
                ["response.reasoning_summary_text.done", "response.reasoning_summary_part.done"],
            ),
            Kind::Message => {
                ("content_index", output_text(&text), ["response.output_text.done", "response.content_part.done"])
            }
        };
        let mut done = object!({ "item_id": id, "output_index": index, place: 0, "text": text });
        if kind == Kind::Message {
            done["logprobs"] = object!([]);
        }
        self.event(out, names[0], done);
        self.event(out, names[1], object!({ "item_id": id, "output_index": index, place: 0, "part": part }));
        let item = kind.item(id, &text);
        self.event(out, "response.output_item.done", object!({ "output_index": index, "item": item }));
        self.output.push(item);
    }

    fn call(&mut self, call: &Call<'_>, out: &mut BytesMut) {
        self.close(out);
        let (index, id) = (self.output.len(), self.id("fc"));
        let arguments = call.function.arguments.get();
        let item = self.function_call(&id, call, arguments, "completed");
        let begun = self.function_call(&id, call, "", "in_progress");
        self.calls += 1;
        self.event(out, "response.output_item.added", object!({ "output_index": index, "item": begun }));
        let place = |key: &str| object!({ "item_id": id, "output_index": index, key: arguments });
        self.event(out, "response.function_call_arguments.delta", place("delta"));
        self.event(out, "response.function_call_arguments.done", place("arguments"));
        self.event(out, "response.output_item.done", object!({ "output_index": index, "item": item }));
        self.output.push(item);
    }

    fn function_call(&self, id: &str, call: &Call<'_>, arguments: &str, status: &str) -> Value {
        object!({
            "id": id, "type": "function_call", "status": status, "call_id": call.id(&self.head.run, self.calls),
            "name": call.function.name, "arguments": arguments,
        })
    }
}

impl Translator for Responses {
    fn line(&mut self, said: &Said<'_>, out: &mut BytesMut) -> Result<(), NodeError> {
        if self.is_done {
            return Ok(());
        }
        self.begin(out);
        let message = said.message();
        self.say(Kind::Reasoning, &message.thinking.decode(), out);
        self.say(Kind::Message, &message.content.decode(), out);
        said.calls().iter().for_each(|call| self.call(call, out));
        if said.done {
            self.is_done = true;
            self.close(out);
            let response = self.response(&self.output, Some(said));
            let name = if said.is_cut() { "response.incomplete" } else { "response.completed" };
            self.event(out, name, object!({ "response": response }));
        }
        Ok(())
    }

    fn end(&mut self, _: &mut BytesMut) -> bool {
        self.is_done
    }

    fn whole(&self, answer: &[u8]) -> Result<Bytes, NodeError> {
        let said = Said::read_whole(answer)?;
        // The events of the same answer come to the same items.
        let (mut events, mut discarded) = (self.clone(), BytesMut::new());
        events.line(&said, &mut discarded)?;
        let mut out = BytesMut::with_capacity(answer.len() + 1024);
        put_json(&mut out, &self.response(&events.output, Some(&said)));
        Ok(out.freeze())
    }

    fn fail(&mut self, error: &Value, out: &mut BytesMut) {
        let error = &error["error"];
        let data = object!({ "code": error["code"], "message": error["message"], "param": null });
        self.event(out, "error", data);
    }
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Reasoning => "rs",
            Self::Message => "msg",
        }
    }

    fn item(self, id: String, text: &str) -> Value {
        match self {
            // Clients send it back as it is: what was thought is in the clear.
            Self::Reasoning => {
                object!({ "id": id, "type": "reasoning", "summary": [summary(text)], "encrypted_content": text })
            }
            Self::Message => object!({
                "id": id, "type": "message", "status": "completed", "role": "assistant", "content": [output_text(text)],
            }),
        }
    }
}

fn summary(text: &str) -> Value {
    object!({ "type": "summary_text", "text": text })
}

fn output_text(text: &str) -> Value {
    object!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

fn usage(said: &Said<'_>) -> Value {
    object!({
        "input_tokens": said.prompt_eval_count, "input_tokens_details": { "cached_tokens": 0 },
        "output_tokens": said.eval_count, "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": said.prompt_eval_count + said.eval_count,
    })
}
