//! A streamed message as Ollama's lines.

use serde::Deserialize;
use serde_json::Value;

use super::{
    super::{
        native::{Said, Translator, Writer},
        openai::{call, words},
    },
    answer::{Block, Usage},
};

/// A stream under way.
pub struct Stream {
    writer: Writer,
    calls: Vec<Partial>,
    stop_reason: Option<String>,
    usage: Usage,
    is_over: bool,
}

/// A call whose arguments are still coming.
struct Partial {
    id: String,
    name: String,
    arguments: String,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    MessageStart {
        message: Start,
    },
    ContentBlockStart {
        content_block: Block,
    },
    ContentBlockDelta {
        delta: Delta,
    },
    MessageDelta {
        delta: Stop,
        #[serde(default)]
        usage: Usage,
    },
    MessageStop,
    Error {
        error: Value,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Start {
    #[serde(default)]
    usage: Usage,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "input_json_delta")]
    Arguments { partial_json: String },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Stop {
    stop_reason: Option<String>,
}

impl Stream {
    /// One of which nothing has come yet.
    pub fn new(writer: Writer) -> Self {
        Self { writer, calls: Vec::new(), stop_reason: None, usage: Usage::default(), is_over: false }
    }

    fn say(&self, said: &Said, out: &mut Vec<u8>) {
        if !said.is_empty() {
            self.writer.line(said, None, out);
        }
    }

    fn begin(&mut self, block: Block, out: &mut Vec<u8>) {
        match block {
            Block::ToolUse { id, name, input } => {
                let arguments = if input.is_empty() { String::new() } else { Value::Object(input).to_string() };
                self.calls.push(Partial { id, name, arguments });
            }
            block => {
                let mut said = Said::default();
                said.add(block);
                self.say(&said, out);
            }
        }
    }

    fn go_on(&mut self, delta: Delta, out: &mut Vec<u8>) {
        match delta {
            Delta::Text { text: content } => self.say(&Said { content, ..Said::default() }, out),
            Delta::Thinking { thinking } => self.say(&Said { thinking, ..Said::default() }, out),
            Delta::Arguments { partial_json } => {
                if let Some(call) = self.calls.last_mut() {
                    call.arguments += &partial_json;
                }
            }
            Delta::Other => {}
        }
    }
}

impl Translator for Stream {
    fn event(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let event = serde_json::from_slice(data).map_err(|_| "an event of the provider is none of Anthropic's API")?;
        match event {
            Event::MessageStart { message } => self.usage = message.usage,
            Event::ContentBlockStart { content_block } => self.begin(content_block, out),
            Event::ContentBlockDelta { delta } => self.go_on(delta, out),
            Event::MessageDelta { delta, usage } => {
                self.usage = self.usage.then(usage);
                self.stop_reason = delta.stop_reason.or(self.stop_reason.take());
            }
            Event::MessageStop => return self.end(out),
            Event::Error { error } => return Err(words(&error)),
            Event::Other => {}
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        let Some(reason) = self.stop_reason.take().filter(|_| !self.is_over) else { return Ok(()) };
        self.is_over = true;
        let calls = std::mem::take(&mut self.calls).into_iter().enumerate();
        let calls = calls.map(|(index, partial)| call(index, partial.id, partial.name, &partial.arguments));
        let said = Said { calls: calls.collect::<Result<_, _>>()?, ..Said::default() };
        self.say(&said, out);
        self.writer.line(&Said::default(), Some(&self.usage.end(&reason)), out);
        Ok(())
    }
}
