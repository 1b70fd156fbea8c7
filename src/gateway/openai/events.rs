//! What chat completions and completions have in common as server-sent events and as objects.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

use crate::gateway::{
    format::Head,
    said::Said,
    sse::{put_data, put_json},
};

/// In bytes, with an id and names as they mostly are.
const USUAL_PREFIX: usize = 256;

/// Token counts.
#[derive(Serialize)]
pub struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

impl Usage {
    /// The tokens read and written.
    pub fn of(said: &Said<'_>) -> Self {
        let (prompt_tokens, completion_tokens) = (said.prompt_eval_count, said.eval_count);
        Self { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }
}

/// Writes objects that differ in their one choice only.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// All up to the choices.
    prefix: Bytes,
}

impl Envelope {
    /// For objects of this kind; the id is `id-` and the run's.
    pub fn new(head: &Head, id: &str, object: &str) -> Self {
        #[derive(Serialize)]
        struct Prefix<'a> {
            id: String,
            object: &'a str,
            created: i64,
            model: &'a str,
            system_fingerprint: &'a str,
        }
        let mut prefix = BytesMut::with_capacity(USUAL_PREFIX);
        let id = format!("{id}-{}", head.run);
        let (model, system_fingerprint) = (&*head.model, &*head.fingerprint);
        put_json(&mut prefix, &Prefix { id, object, created: head.created, model, system_fingerprint });
        prefix.truncate(prefix.len() - 1);
        prefix.put(&b",\"choices\":["[..]);
        Self { prefix: prefix.freeze() }
    }

    /// Writes an object.
    pub fn put(&self, out: &mut BytesMut, choice: impl FnOnce(&mut BytesMut), usage: Option<Usage>) {
        out.put(&self.prefix[..]);
        choice(out);
        out.put_u8(b']');
        if let Some(usage) = usage {
            out.put(&b",\"usage\":"[..]);
            put_json(out, &usage);
        }
        out.put_u8(b'}');
    }

    /// Writes an object as an event.
    pub fn put_event(&self, out: &mut BytesMut, choice: impl FnOnce(&mut BytesMut)) {
        put_data(out, |out| self.put(out, choice, None));
    }

    /// Writes an event with the token counts and no choice.
    pub fn put_usage(&self, out: &mut BytesMut, usage: Usage) {
        put_data(out, |out| self.put(out, |_| {}, Some(usage)));
    }
}

/// Writes the mark after the last event.
pub fn put_done(out: &mut BytesMut) {
    put_data(out, |out| out.put(&b"[DONE]"[..]));
}

/// Why the model stopped.
pub fn finish_reason(said: &Said<'_>, has_called: bool) -> &'static str {
    match (has_called, said.is_cut()) {
        (true, _) => "tool_calls",
        (false, true) => "length",
        (false, false) => "stop",
    }
}
