//! A version's system prompt in a request: pure.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::json as object;

use super::{
    fields::{Fields, json},
    task::Task,
};

/// The fields of a request with this system prompt; `None` when the request brings its own or can't have one.
pub fn with_system(task: Task, asked: &Fields, prompt: &str) -> Option<Fields> {
    let mut fields = asked.clone();
    match task {
        Task::Generate => {
            // With `raw` the caller has done all templating, and Ollama refuses a system prompt beside it.
            let raw = fields.read::<bool>("raw").ok().flatten().unwrap_or_default();
            let own = fields.read::<String>("system").ok().flatten().unwrap_or_default();
            if raw || !own.is_empty() {
                return None;
            }
            fields.set("system", json(prompt));
        }
        Task::Chat => {
            let messages = with_system_message(fields.get("messages")?, prompt)?;
            fields.set("messages", messages);
        }
        Task::Embed | Task::Embeddings => return None,
    }
    Some(fields)
}

/// The messages with a system message in front; `None` when there is one, or no message at all (Ollama takes that as
/// the wish to load the model, not to run it).
fn with_system_message(messages: &Bytes, prompt: &str) -> Option<Bytes> {
    #[derive(Deserialize)]
    struct Message {
        #[serde(default)]
        role: String,
    }
    let known: Vec<Message> = serde_json::from_slice(messages).ok()?;
    if known.is_empty() || known.iter().any(|message| message.role.eq_ignore_ascii_case("system")) {
        return None;
    }
    let opening = messages.iter().position(|byte| *byte == b'[')?;
    let mut out = BytesMut::with_capacity(messages.len() + prompt.len() + 64);
    out.put(&b"["[..]);
    out.put(json(object!({ "role": "system", "content": prompt })));
    out.put(&b","[..]);
    out.put(&messages[opening + 1..]);
    Some(out.freeze())
}
