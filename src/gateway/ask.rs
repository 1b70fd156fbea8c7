//! What a caller asks for, read from the body; and the body that a node gets for it.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::Value;

use super::{
    failure::Api,
    fields::{Fields, json},
    openai,
};
use crate::{
    domain::{
        keep_alive::{KeepAlive, Keeper, keeper},
        params::{self, Source},
        run_record::Effective,
    },
    ports::RunRecord,
    routing_table::{Node, Target},
};

/// So many bytes of a prompt tell conversations apart.
const OPENING: usize = 512;

/// A path of Ollama's own API that answers with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// `/api/chat`.
    Chat,
    /// `/api/generate`.
    Generate,
}

impl Task {
    /// The path on the node.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/api/chat",
            Self::Generate => "/api/generate",
        }
    }
}

/// A body for a node.
pub struct NodeBody {
    /// JSON.
    pub bytes: Bytes,
    /// Whether the version's system prompt is in it.
    pub has_system_prompt: bool,
}

/// A request in Ollama's own terms.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The API that the caller speaks.
    pub api: Api,
    /// Whether an OpenAI stream ends with the token counts.
    pub include_usage: bool,
    /// What is to be done.
    pub task: Task,
    /// The name that the caller asked for.
    pub model: String,
    /// Whether the answer is to come piece by piece.
    pub stream: bool,
    /// The context window that the caller asked for, in tokens.
    pub num_ctx: Option<u64>,
    keep_alive: Option<(KeepAlive, Bytes)>,
    options: BTreeMap<String, Value>,
    rest: Fields,
}

impl Ask {
    /// Reads a request in Ollama's own format.
    ///
    /// # Errors
    /// A message for the caller that names the field.
    pub fn ollama(task: Task, mut fields: Fields) -> Result<Self, String> {
        let model: String = fields.read("model")?.unwrap_or_default();
        if model.is_empty() {
            return Err("model is required".into());
        }
        let mut options: BTreeMap<String, Value> = fields.read("options")?.unwrap_or_default();
        options.retain(|_, value| !value.is_null());
        let num_ctx = match options.remove("num_ctx") {
            Some(value) => Some(
                tokens(&value).filter(|n| *n > 0).ok_or("options.num_ctx: write a number of tokens greater than 0")?,
            ),
            None => None,
        };
        let keep_alive = fields.get("keep_alive").map(read_keep_alive).transpose()?;
        let stream = fields.read("stream")?.unwrap_or(true);
        for name in ["model", "options", "keep_alive", "stream"] {
            fields.remove(name);
        }
        let (api, include_usage) = (Api::Ollama, false);
        Ok(Self { api, include_usage, task, model, stream, num_ctx, keep_alive, options, rest: fields })
    }

    /// Reads a chat completion request in OpenAI's format.
    ///
    /// # Errors
    /// A message for the caller that names the field.
    pub fn openai(fields: &Fields) -> Result<Self, String> {
        let translated = openai::request::translate(fields)?;
        let ask = Self::ollama(Task::Chat, translated.fields)?;
        Ok(Self { api: Api::OpenAi, include_usage: translated.include_usage, ..ask })
    }

    /// How the prompt begins, as the caller wrote it; the turns of a conversation share that.
    pub fn opening(&self) -> Option<&[u8]> {
        let prompt = match self.task {
            Task::Chat => self.rest.get("messages"),
            Task::Generate => self.rest.get("prompt"),
        };
        prompt.map(|prompt| &prompt[..prompt.len().min(OPENING)])
    }

    /// The context window for `target` on `node`; `None` leaves it to the node.
    ///
    /// # Errors
    /// The node's limit, when that is less than what is asked for or configured.
    pub fn context(&self, target: &Target, node: &Node) -> Result<Option<u64>, u64> {
        let limit = node.max_context_length.map(u64::from);
        let version = target.parameters.get("num_ctx").and_then(tokens);
        params::context(self.num_ctx, version.or(node.context_length.map(u64::from)), limit)
    }

    /// The body for `node`, which knows `target` by the name `target.model`.
    pub fn body(&self, target: &Target, node: &Node) -> NodeBody {
        let mut first = vec![("model", json(&*target.model)), ("stream", json(self.stream))];
        let options = self.effective(target, node);
        let options: serde_json::Map<_, _> = options.into_iter().map(|(name, value)| (name, value.value)).collect();
        if !options.is_empty() {
            first.push(("options", json(options)));
        }
        if let Some(keep_alive) = self.keep_alive(node) {
            first.push(("keep_alive", keep_alive));
        }
        let prompt = target.system_prompt.as_deref().and_then(|prompt| self.with_system(prompt));
        NodeBody { bytes: prompt.as_ref().unwrap_or(&self.rest).write(&first), has_system_prompt: prompt.is_some() }
    }

    /// The parameters that take effect for `target` on `node`.
    pub fn effective(&self, target: &Target, node: &Node) -> BTreeMap<String, Effective<Value>> {
        let layers = [(Source::Request, &self.options), (Source::Version, &target.parameters)];
        let mut options = params::merge(&layers);
        options.remove("num_ctx");
        if let Ok(Some(window)) = self.context(target, node) {
            let source = if self.num_ctx == Some(window) { Source::Request } else { Source::Version };
            options.insert("num_ctx".into(), (window.into(), source));
        }
        options.into_iter().map(|(name, (value, source))| (name, Effective { value, source })).collect()
    }

    /// Writes into the record what is asked for.
    pub fn describe(&self, record: &mut RunRecord) {
        #[derive(Deserialize)]
        struct Tool {
            function: Named,
        }
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        record.requested = self.model.as_str().into();
        record.stream = self.stream;
        record.has_format = self.rest.get("format").is_some_and(|format| &format[..] != b"\"\"");
        let tools = self.rest.get("tools").and_then(|tools| serde_json::from_slice::<Vec<Tool>>(tools).ok());
        record.tools = tools.into_iter().flatten().map(|tool| tool.function.name).collect();
    }

    /// Has exactly these parameters take effect, wherever they came from.
    pub fn pin(&mut self, parameters: impl Iterator<Item = (String, Value)>) {
        self.options = parameters.collect();
        self.num_ctx = self.options.remove("num_ctx").as_ref().and_then(tokens);
    }

    fn keep_alive(&self, node: &Node) -> Option<Bytes> {
        let own = node.keep_alive.as_deref().and_then(KeepAlive::from_text);
        match keeper(self.keep_alive.as_ref().map(|(keep, _)| *keep), own) {
            Keeper::Request => self.keep_alive.as_ref().map(|(_, written)| written.clone()),
            Keeper::Node => node.keep_alive.as_deref().map(json),
            Keeper::Nobody => None,
        }
    }

    /// The fields with this system prompt; `None` when the request brings its own or can't have one.
    fn with_system(&self, prompt: &str) -> Option<Fields> {
        let mut fields = self.rest.clone();
        match self.task {
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
        }
        Some(fields)
    }
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
    out.put(json(serde_json::json!({ "role": "system", "content": prompt })));
    out.put(&b","[..]);
    out.put(&messages[opening + 1..]);
    Some(out.freeze())
}

fn tokens(value: &Value) -> Option<u64> {
    let whole = |number: f64| (number.fract() == 0.0 && (0.0..=1e12).contains(&number)).then_some(number as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(whole))
}

fn read_keep_alive(written: &Bytes) -> Result<(KeepAlive, Bytes), String> {
    let keep = match serde_json::from_slice(written) {
        Ok(Value::Number(seconds)) => seconds.as_f64().and_then(KeepAlive::from_seconds),
        Ok(Value::String(text)) => KeepAlive::from_text(&text),
        _ => None,
    };
    let keep = keep.ok_or("keep_alive: write a duration such as \"10m\", or a number of seconds")?;
    Ok((keep, written.clone()))
}
