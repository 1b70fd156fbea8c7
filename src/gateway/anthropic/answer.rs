//! Ollama's answers as messages, whole and as server-sent events.

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde_json::{Value, json as object, value::RawValue};

use crate::{
    gateway::{
        format::{Head, Translator},
        said::{Call, Said, Text},
        sse::{put_event, put_json},
    },
    ports::NodeError,
};

/// Writes one message.
#[derive(Clone, Debug)]
pub struct Messages {
    head: Head,
    /// The block being written.
    open: Option<Block>,
    /// How many blocks were begun.
    blocks: usize,
    calls: usize,
    is_begun: bool,
    is_done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Thinking,
    Text,
}

#[derive(Serialize)]
struct Delta<'a> {
    r#type: &'static str,
    index: usize,
    delta: DeltaOf<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum DeltaOf<'a> {
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a RawValue },
    #[serde(rename = "text_delta")]
    Text { text: &'a RawValue },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: &'a str },
}

impl Messages {
    /// For one answer.
    pub fn new(head: Head) -> Self {
        Self { head, open: None, blocks: 0, calls: 0, is_begun: false, is_done: false }
    }

    fn message(&self, content: &[Value], stop_reason: Option<&str>, usage: Value) -> Value {
        object!({
            "id": format!("msg_{}", self.head.run), "type": "message", "role": "assistant", "model": self.head.model,
            "content": content, "stop_reason": stop_reason, "stop_sequence": null, "usage": usage,
        })
    }

    fn begin(&mut self, out: &mut BytesMut) {
        if !self.is_begun {
            self.is_begun = true;
            // How many tokens the prompt has is known at the end.
            let message = self.message(&[], None, object!({ "input_tokens": 0, "output_tokens": 0 }));
            put_event(out, "message_start", &object!({ "type": "message_start", "message": message }));
        }
    }

    fn start_block(&mut self, out: &mut BytesMut, block: &Value) {
        let event = object!({ "type": "content_block_start", "index": self.blocks, "content_block": block });
        put_event(out, "content_block_start", &event);
        self.blocks += 1;
    }

    fn stop_block(&self, out: &mut BytesMut) {
        let event = object!({ "type": "content_block_stop", "index": self.blocks.saturating_sub(1) });
        put_event(out, "content_block_stop", &event);
    }

    fn close(&mut self, out: &mut BytesMut) {
        if self.open.take().is_some() {
            self.stop_block(out);
        }
    }

    fn delta(&self, out: &mut BytesMut, delta: DeltaOf<'_>) {
        let index = self.blocks.saturating_sub(1);
        put_event(out, "content_block_delta", &Delta { r#type: "content_block_delta", index, delta });
    }

    fn text(&mut self, block: Block, text: Text<'_>, out: &mut BytesMut) -> Result<(), NodeError> {
        if text.is_empty() {
            return Ok(());
        }
        let text: &RawValue = serde_json::from_str(text.json()).map_err(|_| NodeError::Broken("not JSON".into()))?;
        if self.open != Some(block) {
            self.close(out);
            let start = match block {
                Block::Thinking => object!({ "type": "thinking", "thinking": "", "signature": "" }),
                Block::Text => object!({ "type": "text", "text": "" }),
            };
            self.start_block(out, &start);
            self.open = Some(block);
        }
        self.delta(
            out,
            match block {
                Block::Thinking => DeltaOf::Thinking { thinking: text },
                Block::Text => DeltaOf::Text { text },
            },
        );
        Ok(())
    }

    fn call(&mut self, call: &Call<'_>, out: &mut BytesMut) {
        self.close(out);
        let id = call.id(&self.head.run, self.calls);
        self.calls += 1;
        self.start_block(out, &object!({ "type": "tool_use", "id": id, "name": call.function.name, "input": {} }));
        self.delta(out, DeltaOf::InputJson { partial_json: call.function.arguments.get() });
        self.stop_block(out);
    }
}

impl Translator for Messages {
    fn line(&mut self, said: &Said<'_>, out: &mut BytesMut) -> Result<(), NodeError> {
        if self.is_done {
            return Ok(());
        }
        self.begin(out);
        let message = said.message();
        self.text(Block::Thinking, message.thinking, out)?;
        self.text(Block::Text, message.content, out)?;
        said.calls().iter().for_each(|call| self.call(call, out));
        if said.done {
            self.is_done = true;
            self.close(out);
            let delta = object!({ "stop_reason": stop_reason(said, self.calls > 0), "stop_sequence": null });
            let event = object!({ "type": "message_delta", "delta": delta, "usage": usage(said) });
            put_event(out, "message_delta", &event);
            put_event(out, "message_stop", &object!({ "type": "message_stop" }));
        }
        Ok(())
    }

    fn end(&mut self, _: &mut BytesMut) -> bool {
        self.is_done
    }

    fn whole(&self, answer: &[u8]) -> Result<Bytes, NodeError> {
        let said = Said::read_whole(answer)?;
        let (message, mut content) = (said.message(), Vec::new());
        if !message.thinking.is_empty() {
            content.push(object!({ "type": "thinking", "thinking": message.thinking.decode(), "signature": "" }));
        }
        if !message.content.is_empty() {
            content.push(object!({ "type": "text", "text": message.content.decode() }));
        }
        for (index, call) in said.calls().iter().enumerate() {
            let (id, name) = (call.id(&self.head.run, index), &call.function.name);
            content.push(object!({ "type": "tool_use", "id": id, "name": name, "input": call.function.arguments }));
        }
        let reason = stop_reason(&said, !said.calls().is_empty());
        let mut out = BytesMut::with_capacity(answer.len() + 256);
        put_json(&mut out, &self.message(&content, Some(reason), usage(&said)));
        Ok(out.freeze())
    }

    fn fail(&mut self, error: &Value, out: &mut BytesMut) {
        put_event(out, "error", error);
    }
}

/// Whether the model ended by itself or by a stop sequence, Ollama doesn't tell.
fn stop_reason(said: &Said<'_>, has_called: bool) -> &'static str {
    match (has_called, said.is_cut()) {
        (true, _) => "tool_use",
        (false, true) => "max_tokens",
        (false, false) => "end_turn",
    }
}

fn usage(said: &Said<'_>) -> Value {
    object!({ "input_tokens": said.prompt_eval_count, "output_tokens": said.eval_count })
}
