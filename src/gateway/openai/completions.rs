//! Completions in terms of Ollama's `/api/generate`.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

use super::{
    events::{Envelope, Usage, finish_reason, put_done},
    wishes::Wishes,
};
use crate::{
    gateway::{
        fields::{Fields, json},
        format::{Format, Head, Translator},
        said::Said,
        task::{Task, Translated},
    },
    ports::NodeError,
};

/// Translates the body of `/v1/completions`.
///
/// # Errors
/// A message that names the field that is wrong or not supported.
pub fn translate(asked: Fields) -> Result<Translated, String> {
    let mut wishes = Wishes::new(asked)?;
    wishes.only_one("n")?;
    wishes.only_one("best_of")?;
    wishes.refuse(&["logit_bias", "echo", "logprobs"])?;
    let prompt = match wishes.take::<Value>("prompt")? {
        None => return Err("prompt is required".into()),
        Some(Value::String(prompt)) => prompt,
        Some(Value::Array(prompts)) => match <[Value; 1]>::try_from(prompts) {
            Ok([Value::String(prompt)]) => prompt,
            _ => return Err("prompt: write one string; several prompts or tokens are not supported".into()),
        },
        Some(_) => return Err("prompt: write one string".into()),
    };
    wishes.set("prompt", json(prompt));
    wishes.sampling("max_tokens")?;
    let include_usage = wishes.stream()?;
    wishes.translated(Task::Generate, Format::Completion { include_usage })
}

/// Writes one completion.
#[derive(Clone, Debug)]
pub struct Completion {
    head: Head,
    chunk: Envelope,
    include_usage: bool,
    is_done: bool,
}

impl Completion {
    /// For one answer.
    pub fn new(head: Head, include_usage: bool) -> Self {
        let chunk = Envelope::new(&head, "cmpl", "text_completion");
        Self { head, chunk, include_usage, is_done: false }
    }
}

impl Translator for Completion {
    fn line(&mut self, said: &Said<'_>, out: &mut BytesMut) -> Result<(), NodeError> {
        let text = said.message().content;
        if self.is_done || (text.is_empty() && !said.done) {
            return Ok(());
        }
        self.chunk.put_event(out, |out| put_choice(out, said));
        if said.done {
            self.is_done = true;
            if self.include_usage {
                self.chunk.put_usage(out, Usage::of(said));
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
        let mut out = BytesMut::with_capacity(answer.len() + 256);
        let envelope = Envelope::new(&self.head, "cmpl", "text_completion");
        envelope.put(&mut out, |out| put_choice(out, &said), Some(Usage::of(&said)));
        Ok(out.freeze())
    }
}

fn put_choice(out: &mut BytesMut, said: &Said<'_>) {
    out.put(&b"{\"index\":0,\"text\":"[..]);
    out.put(said.message().content.json().as_bytes());
    out.put(&b",\"logprobs\":null,\"finish_reason\":"[..]);
    match said.done {
        true => out.put(format!("\"{}\"}}", finish_reason(said, false)).as_bytes()),
        false => out.put(&b"null}"[..]),
    }
}
