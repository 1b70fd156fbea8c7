//! Messages of a chat completion request as Ollama takes them.

use std::{borrow::Cow, collections::HashMap};

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::gateway::{
    fields::describe,
    native::{self, Content, Function, ToolCall, arguments, image},
    sse::put_json,
};

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, alias = "reasoning_content")]
    reasoning: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tool_calls: Option<Vec<AskedCall<'a>>>,
    #[serde(borrow)]
    tool_call_id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct AskedCall<'a> {
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    function: AskedFunction<'a>,
}

#[derive(Deserialize)]
struct AskedFunction<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    arguments: Cow<'a, str>,
}

impl Message<'_> {
    /// Whether Ollama reads it the same.
    fn is_plain(&self) -> bool {
        matches!(&*self.role, "system" | "user" | "assistant")
            && self.content.is_some_and(|content| content.get().starts_with('"'))
            && self.reasoning.is_none()
            && self.tool_calls.as_ref().is_none_or(Vec::is_empty)
    }
}

/// Translates the messages in their order.
///
/// # Errors
/// A message that names the place that is wrong or not supported.
pub fn translate_messages(messages: &Bytes) -> Result<Bytes, String> {
    let written: Vec<&RawValue> =
        serde_json::from_slice(messages).map_err(|error| format!("messages: {}", describe(&error)))?;
    let read = written.into_iter().enumerate().map(|(index, message)| {
        let read: Result<Message<'_>, _> = serde_json::from_str(message.get());
        read.map_err(|error| format!("messages[{index}]: {}", describe(&error)))
    });
    let read = read.collect::<Result<Vec<_>, String>>()?;
    if read.iter().all(Message::is_plain) {
        return Ok(messages.clone());
    }
    let mut tools_by_call = HashMap::new();
    let translated = read.into_iter().enumerate().map(|(index, message)| {
        let place = format!("messages[{index}]");
        translate_message(&place, message, &mut tools_by_call)
    });
    let mut out = BytesMut::with_capacity(messages.len());
    put_json(&mut out, &translated.collect::<Result<Vec<_>, String>>()?);
    Ok(out.freeze())
}

fn translate_message<'a>(
    place: &str,
    message: Message<'a>,
    tools: &mut HashMap<String, String>,
) -> Result<native::Message<'a>, String> {
    let role = match &*message.role {
        "system" | "developer" => "system",
        "user" => "user",
        "assistant" => "assistant",
        "tool" => "tool",
        other => return Err(format!("{place}.role: {other:?} is not supported")),
    };
    let (content, images) = content(place, message.content)?;
    let mut calls = Vec::new();
    for (index, call) in message.tool_calls.into_iter().flatten().enumerate() {
        tools.insert(call.id.clone().into_owned(), call.function.name.clone().into_owned());
        let AskedFunction { name, arguments: written } = call.function;
        let arguments =
            arguments(&written).map_err(|fault| format!("{place}.tool_calls[{index}].function.arguments: {fault}"))?;
        calls.push(ToolCall { id: call.id, function: Function { name, arguments: Cow::Owned(arguments) } });
    }
    let mut out = native::Message::says(role, content);
    (out.images, out.thinking, out.tool_calls) = (images, message.reasoning, calls);
    if role == "tool" {
        let id = message.tool_call_id.unwrap_or_default();
        out.tool_name = message.name.map(Cow::into_owned).or_else(|| tools.get(&*id).cloned());
        out.tool_call_id = Some(id);
    }
    Ok(out)
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    r#type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    image_url: Option<&'a RawValue>,
}

/// Text and images of a message's content. Parts of text are joined by line ends.
fn content<'a>(place: &str, written: Option<&'a RawValue>) -> Result<(Content<'a>, Vec<Cow<'a, str>>), String> {
    let Some(written) = written else { return Ok((Content::Text(String::new()), Vec::new())) };
    if written.get().starts_with('"') {
        return Ok((Content::Written(written), Vec::new()));
    }
    let parts: Vec<Part<'a>> = match serde_json::from_str(written.get()) {
        Ok(parts) => parts,
        Err(_) => return Err(format!("{place}.content: write a string or a list of parts")),
    };
    let (mut texts, mut images) = (Vec::new(), Vec::new());
    for (index, part) in parts.into_iter().enumerate() {
        let place = format!("{place}.content[{index}]");
        match part.r#type.as_deref() {
            Some("text") => texts.push(text(&place, part.text)?),
            Some("image_url") => images.push(image_url(&place, part.image_url)?),
            Some(other) => return Err(format!("{place}: parts of type {other:?} are not supported")),
            None => return Err(format!("{place}.type is required")),
        }
    }
    Ok((Content::Text(texts.join("\n")), images))
}

fn text<'a>(place: &str, written: Option<&'a RawValue>) -> Result<Cow<'a, str>, String> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let read = written.and_then(|written| serde_json::from_str::<Text<'a>>(written.get()).ok());
    read.map(|Text(text)| text).ok_or_else(|| format!("{place}.text: write a string"))
}

fn image_url<'a>(place: &str, written: Option<&'a RawValue>) -> Result<Cow<'a, str>, String> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum ImageUrl<'a> {
        Bare(#[serde(borrow)] Cow<'a, str>),
        Object {
            #[serde(borrow)]
            url: Cow<'a, str>,
        },
    }
    let url = match written.and_then(|written| serde_json::from_str(written.get()).ok()) {
        Some(ImageUrl::Bare(url) | ImageUrl::Object { url }) => url,
        None => return Err(format!("{place}.image_url.url is required")),
    };
    image(url).map_err(|fault| format!("{place}.image_url: {fault}"))
}
