//! Messages as Ollama takes them, which other APIs' messages are translated to.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::value::RawValue;

/// One message of a chat.
#[derive(Serialize)]
pub struct Message<'a> {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: &'static str,
    /// What is said.
    pub content: Content<'a>,
    /// Images in base64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Cow<'a, str>>,
    /// What the model thought before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Cow<'a, str>>,
    /// The tools that the model wanted called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall<'a>>,
    /// The tool whose result this is: Ollama's templates go by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_name: Option<String>,
    /// The call whose result this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<Cow<'a, str>>,
}

/// What is said: as it was written, or joined.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Content<'a> {
    /// A JSON string as it was written.
    Written(&'a RawValue),
    /// Text.
    Text(String),
}

/// A tool that the model wanted called.
#[derive(Serialize)]
pub struct ToolCall<'a> {
    /// Its id.
    pub id: Cow<'a, str>,
    /// The tool and what it was called with.
    pub function: Function<'a>,
}

/// A function by name, with its arguments as a JSON object.
#[derive(Serialize)]
pub struct Function<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// Its arguments.
    pub arguments: Cow<'a, RawValue>,
}

impl<'a> Message<'a> {
    /// A message that says this and no more.
    pub fn says(role: &'static str, content: Content<'a>) -> Self {
        Self {
            role,
            content,
            images: Vec::new(),
            thinking: None,
            tool_calls: Vec::new(),
            tool_name: None,
            tool_call_id: None,
        }
    }
}

/// The JSON object in `written`, where nothing is an empty one.
///
/// # Errors
/// That it is none.
pub fn arguments(written: &str) -> Result<Box<RawValue>, String> {
    let written = if written.trim().is_empty() { "{}" } else { written.trim() };
    match RawValue::from_string(written.to_owned()) {
        Ok(arguments) if arguments.get().starts_with('{') => Ok(arguments),
        _ => Err("not a JSON object".into()),
    }
}

/// The base64 text of an image given as a `data:` URL.
///
/// # Errors
/// That it is something else: nothing is fetched from anywhere.
pub fn image(url: Cow<'_, str>) -> Result<Cow<'_, str>, String> {
    let split = |url: &str| {
        let (kind, data) = url.strip_prefix("data:")?.split_once(";base64,")?;
        let fits = kind.is_empty() || kind.starts_with("image/");
        (fits && is_base64(data)).then_some(url.len() - data.len())
    };
    let Some(start) = split(&url) else {
        return Err("only data:image/…;base64,… URLs are supported: nothing is fetched".into());
    };
    Ok(match url {
        Cow::Borrowed(url) => Cow::Borrowed(&url[start..]),
        Cow::Owned(url) => Cow::Owned(url[start..].to_owned()),
    })
}

/// Whether this is something in base64.
pub fn is_base64(data: &str) -> bool {
    !data.is_empty() && STANDARD.decode(data).is_ok()
}
