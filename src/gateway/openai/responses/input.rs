//! The input of a response as messages that Ollama takes.

use std::{borrow::Cow, collections::HashMap};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::gateway::{
    fields::describe,
    native::{Content, Function, Message, ToolCall, arguments, image},
};

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(default)]
    r#type: String,
    role: Option<String>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(default)]
    call_id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    arguments: String,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
    encrypted_content: Option<String>,
    #[serde(default)]
    summary: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    r#type: String,
    text: Option<String>,
    refusal: Option<String>,
    image_url: Option<String>,
}

/// Translates the input, a text or a list of items.
///
/// # Errors
/// A message that names the place that is wrong or not supported.
pub fn translate_input(input: &Bytes) -> Result<Vec<Message<'_>>, String> {
    if input.starts_with(b"\"") {
        let text: &RawValue = serde_json::from_slice(input).map_err(|error| format!("input: {}", describe(&error)))?;
        return Ok(vec![Message::says("user", Content::Written(text))]);
    }
    let items: Vec<&RawValue> = serde_json::from_slice(input).map_err(|_| "input: write a string or a list")?;
    let mut chat = Chat::default();
    for (index, item) in items.into_iter().enumerate() {
        let place = format!("input[{index}]");
        let item: Item<'_> =
            serde_json::from_str(item.get()).map_err(|error| format!("{place}: {}", describe(&error)))?;
        chat.add(&place, item)?;
    }
    Ok(chat.finish())
}

#[derive(Default)]
struct Chat<'a> {
    messages: Vec<Message<'a>>,
    tools_by_call: HashMap<String, String>,
    /// What was thought before the next message of the model.
    thinking: Option<String>,
}

impl<'a> Chat<'a> {
    fn add(&mut self, place: &str, item: Item<'a>) -> Result<(), String> {
        match (item.r#type.as_str(), item.role.as_deref()) {
            ("message", _) | ("", Some(_)) => self.message(place, item),
            ("function_call", _) => self.call(place, item),
            ("function_call_output", _) => self.result(place, item),
            ("reasoning", _) => {
                let summary = || item.summary.iter().filter_map(|part| part.text.as_deref()).collect::<String>();
                self.thinking = Some(item.encrypted_content.clone().unwrap_or_else(summary));
                Ok(())
            }
            (other, _) => Err(format!("{place}: items of type {other:?} are not supported")),
        }
    }

    fn message(&mut self, place: &str, item: Item<'a>) -> Result<(), String> {
        let role = match item.role.as_deref() {
            Some("system" | "developer") => "system",
            Some("user") => "user",
            Some("assistant") => "assistant",
            Some(other) => return Err(format!("{place}.role: {other:?} is not supported")),
            None => return Err(format!("{place}.role is required")),
        };
        let content = item.content.ok_or_else(|| format!("{place}.content is required"))?;
        let (content, images) = said(&format!("{place}.content"), content)?;
        let mut message = Message::says(role, content);
        message.images = images;
        if role == "assistant" {
            message.thinking = self.thinking.take().map(Cow::Owned);
        }
        self.messages.push(message);
        Ok(())
    }

    /// A call belongs to the message of the model before it.
    fn call(&mut self, place: &str, item: Item<'a>) -> Result<(), String> {
        let arguments = arguments(&item.arguments).map_err(|fault| format!("{place}.arguments: {fault}"))?;
        self.tools_by_call.insert(item.call_id.clone(), item.name.clone());
        let function = Function { name: item.name.into(), arguments: Cow::Owned(arguments) };
        let call = ToolCall { id: item.call_id.into(), function };
        if self.messages.last().is_none_or(|last| last.role != "assistant") {
            self.messages.push(Message::says("assistant", Content::Text(String::new())));
        }
        if let Some(message) = self.messages.last_mut() {
            message.thinking = self.thinking.take().map(Cow::Owned).or(message.thinking.take());
            message.tool_calls.push(call);
        }
        Ok(())
    }

    fn result(&mut self, place: &str, item: Item<'a>) -> Result<(), String> {
        let output = item.output.ok_or_else(|| format!("{place}.output is required"))?;
        let (content, images) = said(&format!("{place}.output"), output)?;
        let mut message = Message::says("tool", content);
        message.images = images;
        message.tool_name = self.tools_by_call.get(&item.call_id).cloned();
        message.tool_call_id = Some(item.call_id.into());
        self.messages.push(message);
        Ok(())
    }

    fn finish(mut self) -> Vec<Message<'a>> {
        if let Some(thinking) = self.thinking {
            let mut message = Message::says("assistant", Content::Text(String::new()));
            message.thinking = Some(thinking.into());
            self.messages.push(message);
        }
        self.messages
    }
}

/// Text and images of some content, a text or a list of parts.
fn said<'a>(place: &str, content: &'a RawValue) -> Result<(Content<'a>, Vec<Cow<'a, str>>), String> {
    if content.get().starts_with('"') {
        return Ok((Content::Written(content), Vec::new()));
    }
    let parts: Vec<Part> =
        serde_json::from_str(content.get()).map_err(|_| format!("{place}: write a string or a list of parts"))?;
    let (mut text, mut images) = (String::new(), Vec::new());
    for (index, part) in parts.into_iter().enumerate() {
        let place = format!("{place}[{index}]");
        match part.r#type.as_str() {
            "input_text" | "output_text" | "text" => {
                text.push_str(&part.text.ok_or_else(|| format!("{place}.text is required"))?);
            }
            "refusal" => text.push_str(&part.refusal.unwrap_or_default()),
            "input_image" => {
                let url = part.image_url.ok_or_else(|| format!("{place}.image_url is required"))?;
                images.push(image(url.into()).map_err(|fault| format!("{place}.image_url: {fault}"))?);
            }
            other => return Err(format!("{place}: parts of type {other:?} are not supported")),
        }
    }
    Ok((Content::Text(text), images))
}
