//! Ollama's own API, as far as providers have counterparts for it: requests as they come, answers as they go. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

/// Without the parser's own words, which could quote a prompt.
pub const CANNOT_TRANSLATE: &str = "the request is not of the form that Ollama's API has";

/// A request to `/api/chat` or `/api/generate`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Request {
    /// The provider's name of the model.
    pub model: String,
    /// Whether the answer is to come piece by piece.
    pub stream: bool,
    /// What was said so far, in a chat.
    pub messages: Vec<Message>,
    /// What is asked, outside of a chat.
    pub prompt: String,
    /// The system prompt, outside of a chat.
    pub system: String,
    /// Images in base64, outside of a chat.
    pub images: Vec<String>,
    /// `"json"` or a JSON schema.
    pub format: Option<Value>,
    /// The tools that the model is offered, as OpenAI writes them, too.
    pub tools: Vec<Value>,
    /// Whether to think, or how much.
    pub think: Option<Value>,
    /// Whether to tell how likely each token was.
    pub logprobs: bool,
    /// How many other tokens to tell of.
    pub top_logprobs: Option<u64>,
    /// Options by Ollama's names; only those that the provider has counterparts of.
    pub options: Map<String, Value>,
    /// What goes after the answer.
    suffix: String,
    /// Another template than the model's.
    template: String,
    /// Whether to use no template.
    raw: bool,
    /// What an earlier answer gave to go on from, in tokens of that model.
    context: Vec<Value>,
    /// Fields of Ollama's that say how the node is to work.
    #[serde(rename = "keep_alive")]
    _keep_alive: Option<Value>,
    #[serde(rename = "truncate")]
    _truncate: Option<Value>,
    #[serde(rename = "shift")]
    _shift: Option<Value>,
    #[serde(rename = "_debug_render_only")]
    _debug: Option<Value>,
    /// Everything else, which is the provider's own.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// One message of a chat.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What is said.
    pub content: String,
    /// Images in base64.
    pub images: Vec<String>,
    /// The tools that the model wanted called.
    pub tool_calls: Vec<ToolCall>,
    /// The tool whose result this is.
    pub tool_name: String,
    /// The call whose result this is.
    pub tool_call_id: String,
}

/// A tool that the model wants called.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ToolCall {
    /// Its id; callers of Ollama's API may have none.
    pub id: String,
    /// The tool and what it is called with.
    pub function: Function,
}

/// A function by name, with its arguments as a JSON object.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Function {
    /// Its place among the calls of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub arguments: Map<String, Value>,
}

/// A request to `/api/embed` or `/api/embeddings`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct EmbedRequest {
    /// The provider's name of the model.
    pub model: String,
    /// A text or a list of them.
    pub input: Option<Value>,
    /// The text, in the older form.
    pub prompt: String,
    /// How long a vector is to be.
    pub dimensions: Option<u64>,
}

impl Request {
    /// Reads one. A request outside of a chat becomes a chat; one that only loads a model has no messages.
    ///
    /// # Errors
    /// For the caller: what is wrong, or can't be done by a provider.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let mut body: Value = serde_json::from_slice(body).map_err(|_| CANNOT_TRANSLATE.to_owned())?;
        forget_nulls(&mut body);
        body.get_mut("messages").and_then(Value::as_array_mut).into_iter().flatten().for_each(forget_nulls);
        let mut request: Self = serde_json::from_value(body).map_err(|_| CANNOT_TRANSLATE.to_owned())?;
        let impossible = [
            ("suffix", !request.suffix.is_empty()),
            ("template", !request.template.is_empty()),
            ("raw", request.raw),
            ("context", !request.context.is_empty()),
        ];
        if let Some((field, _)) = impossible.into_iter().find(|(_, is_there)| *is_there) {
            return Err(format!("{field}: not supported by models of providers"));
        }
        let is_said = !request.prompt.is_empty() || !request.images.is_empty();
        if request.messages.is_empty() && is_said {
            let says = |role: &str, content: String| Message { role: role.into(), content, ..Message::default() };
            let system = says("system", std::mem::take(&mut request.system));
            let mut user = says("user", std::mem::take(&mut request.prompt));
            user.images = std::mem::take(&mut request.images);
            request.messages.extend(Some(system).filter(|system| !system.content.is_empty()));
            request.messages.push(user);
        }
        name_calls(&mut request.messages);
        Ok(request)
    }
}

/// Takes out the fields that say nothing.
fn forget_nulls(object: &mut Value) {
    if let Value::Object(fields) = object {
        fields.retain(|_, value| !value.is_null());
    }
}

/// Gives every call an id, and every result the id of its call: by the tool's name, else in their order.
fn name_calls(messages: &mut [Message]) {
    let mut open: Vec<(String, String)> = Vec::new();
    let mut count = 0;
    for message in messages {
        for call in &mut message.tool_calls {
            if call.id.is_empty() {
                call.id = format!("call_{count}");
            }
            count += 1;
            open.push((call.id.clone(), call.function.name.clone()));
        }
        if message.role == "tool" {
            let by_id = open.iter().position(|(id, _)| *id == message.tool_call_id);
            let by_name = || open.iter().position(|(_, name)| *name == message.tool_name);
            let found =
                if message.tool_call_id.is_empty() { by_name().or((!open.is_empty()).then_some(0)) } else { by_id };
            if let Some(at) = found {
                message.tool_call_id = open.remove(at).0;
            }
        }
    }
}

/// What a model says in one step.
#[derive(Debug, Default)]
pub struct Said {
    /// Text for the caller.
    pub content: String,
    /// Text of a model that thinks aloud.
    pub thinking: String,
    /// Tools that it wants called.
    pub calls: Vec<ToolCall>,
    /// How likely each token was.
    pub logprobs: Option<Box<RawValue>>,
}

impl Said {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.content.is_empty() && self.thinking.is_empty() && self.calls.is_empty() && self.logprobs.is_none()
    }
}

/// What an answer's events are in Ollama's words.
pub trait Translator: Send {
    /// Writes the lines that one event makes.
    ///
    /// # Errors
    /// The provider's own words when it failed, or that this is none of its events.
    fn event(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), String>;

    /// Writes what is left at the end of the body. An answer that isn't whole then gets no last line.
    ///
    /// # Errors
    /// As for an event.
    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), String>;
}

/// How an answer ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Why, in Ollama's words where it has some.
    pub reason: String,
    /// Tokens read.
    pub prompt: u64,
    /// Tokens written.
    pub completion: u64,
}

/// Writes answers as Ollama does.
#[derive(Debug)]
pub struct Writer {
    /// The name that the model was called by.
    pub model: String,
    /// When the answer began, as RFC 3339 has it.
    pub created_at: String,
    /// Whether it is an answer in a chat.
    pub is_chat: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    model: &'a str,
    created_at: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Words<'a>>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    response: Option<Response<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<&'a RawValue>,
    done: bool,
    #[serde(flatten)]
    end: Option<Ending<'a>>,
}

#[derive(Serialize)]
struct Words<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    thinking: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tool_calls: &'a [ToolCall],
}

#[derive(Serialize)]
struct Response<'a> {
    response: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    thinking: &'a str,
}

#[derive(Serialize)]
struct Ending<'a> {
    done_reason: &'a str,
    prompt_eval_count: u64,
    eval_count: u64,
}

impl Writer {
    /// One line: what is said, and at the end how it ended.
    pub fn line(&self, said: &Said, end: Option<&End>, out: &mut Vec<u8>) {
        let Said { content, thinking, calls, logprobs } = said;
        let message = Words { role: "assistant", content, thinking, tool_calls: calls };
        let line = Line {
            model: &self.model,
            created_at: &self.created_at,
            message: self.is_chat.then_some(message),
            response: (!self.is_chat).then_some(Response { response: content, thinking }),
            logprobs: logprobs.as_deref(),
            done: end.is_some(),
            end: end.map(|end| Ending {
                done_reason: &end.reason,
                prompt_eval_count: end.prompt,
                eval_count: end.completion,
            }),
        };
        put(&line, out);
    }
}

/// The line by which Ollama tells of a failure.
pub fn error(message: &str, out: &mut Vec<u8>) {
    put(&BTreeMap::from([("error", message)]), out);
}

fn put(line: &impl Serialize, out: &mut Vec<u8>) {
    // Texts, numbers and JSON that was read before can always be written.
    if serde_json::to_writer(&mut *out, line).is_ok() {
        out.push(b'\n');
    }
}
