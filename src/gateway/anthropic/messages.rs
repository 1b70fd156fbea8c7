//! Messages of a request as Ollama takes them: a message's blocks are text, images, calls of tools and their results.

use std::{borrow::Cow, collections::HashMap};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::gateway::{
    fields::describe,
    native::{Content, Function, Message, ToolCall, is_base64},
};

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    text: Option<String>,
    thinking: Option<String>,
    #[serde(borrow)]
    source: Option<Source<'a>>,
    id: Option<String>,
    name: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    tool_use_id: Option<String>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Source<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Cow<'a, str>,
}

/// The system prompt, a string or blocks of text, as a message; `None` when it says nothing.
///
/// # Errors
/// The place that is wrong.
pub fn system(written: &Bytes) -> Result<Option<Message<'_>>, String> {
    let written = serde_json::from_slice(written).map_err(|error| format!("system: {}", describe(&error)))?;
    let mut said = Said::default();
    said.add_all("system", written, &mut HashMap::new())?;
    if !said.images.is_empty() || !said.calls.is_empty() || !said.results.is_empty() {
        return Err("system: only text is supported".into());
    }
    let text = said.text;
    Ok((!text.is_empty()).then(|| Message::says("system", Content::Text(text))))
}

/// Translates the messages in their order.
///
/// # Errors
/// A message that names the place that is wrong or not supported.
pub fn translate_messages(written: &[u8]) -> Result<Vec<Message<'_>>, String> {
    let written: Vec<&RawValue> =
        serde_json::from_slice(written).map_err(|error| format!("messages: {}", describe(&error)))?;
    let (mut tools_by_call, mut out) = (HashMap::new(), Vec::with_capacity(written.len()));
    for (index, message) in written.into_iter().enumerate() {
        let place = format!("messages[{index}]");
        let message: Asked<'_> =
            serde_json::from_str(message.get()).map_err(|error| format!("{place}: {}", describe(&error)))?;
        let role = match &*message.role {
            "user" => "user",
            "assistant" => "assistant",
            "system" => "system",
            other => return Err(format!("{place}.role: {other:?} is not supported")),
        };
        let mut said = Said::default();
        said.add_all(&format!("{place}.content"), message.content, &mut tools_by_call)?;
        said.finish(role, &mut out);
    }
    Ok(out)
}

/// What the blocks of one message say.
#[derive(Default)]
struct Said<'a> {
    text: String,
    thinking: Option<String>,
    images: Vec<Cow<'a, str>>,
    calls: Vec<ToolCall<'a>>,
    results: Vec<Message<'a>>,
}

impl<'a> Said<'a> {
    fn add_all(
        &mut self,
        place: &str,
        content: &'a RawValue,
        tools: &mut HashMap<String, String>,
    ) -> Result<(), String> {
        if content.get().starts_with('"') {
            self.text = serde_json::from_str(content.get()).map_err(|_| format!("{place}: not a string"))?;
            return Ok(());
        }
        let blocks: Vec<&RawValue> =
            serde_json::from_str(content.get()).map_err(|_| format!("{place}: write a string or a list of blocks"))?;
        for (index, block) in blocks.into_iter().enumerate() {
            let place = format!("{place}[{index}]");
            let block = serde_json::from_str(block.get()).map_err(|error| format!("{place}: {}", describe(&error)))?;
            self.add(&place, block, tools)?;
        }
        Ok(())
    }

    fn add(&mut self, place: &str, block: Block<'a>, tools: &mut HashMap<String, String>) -> Result<(), String> {
        let required = |what: &str| format!("{place}.{what} is required");
        match &*block.r#type {
            "text" => self.text.push_str(&block.text.ok_or_else(|| required("text"))?),
            "thinking" => self.thinking.get_or_insert_default().push_str(&block.thinking.unwrap_or_default()),
            // Encrypted for another model.
            "redacted_thinking" => {}
            "image" => self.images.push(image(place, block.source)?),
            "tool_use" => {
                let id = block.id.ok_or_else(|| required("id"))?;
                let name = block.name.ok_or_else(|| required("name"))?;
                let input = block.input.ok_or_else(|| required("input"))?;
                if !input.get().starts_with('{') {
                    return Err(format!("{place}.input: write an object"));
                }
                tools.insert(id.clone(), name.clone());
                let function = Function { name: name.into(), arguments: Cow::Borrowed(input) };
                self.calls.push(ToolCall { id: id.into(), function });
            }
            "tool_result" => {
                let id = block.tool_use_id.ok_or_else(|| required("tool_use_id"))?;
                let mut said = Said::default();
                if let Some(content) = block.content {
                    said.add_all(&format!("{place}.content"), content, tools)?;
                }
                let mut result = Message::says("tool", Content::Text(said.text));
                result.images = said.images;
                result.tool_name = tools.get(&id).cloned();
                result.tool_call_id = Some(id.into());
                self.results.push(result);
            }
            other => return Err(format!("{place}: blocks of type {other:?} are not supported")),
        }
        Ok(())
    }

    /// The results of tools come first: what a user adds to them is said after them.
    fn finish(self, role: &'static str, out: &mut Vec<Message<'a>>) {
        let has_results = !self.results.is_empty();
        out.extend(self.results);
        let says =
            !self.text.is_empty() || !self.images.is_empty() || !self.calls.is_empty() || self.thinking.is_some();
        if says || !has_results {
            let mut message = Message::says(role, Content::Text(self.text));
            message.images = self.images;
            message.thinking = self.thinking.map(Cow::Owned);
            message.tool_calls = self.calls;
            out.push(message);
        }
    }
}

fn image<'a>(place: &str, source: Option<Source<'a>>) -> Result<Cow<'a, str>, String> {
    match source {
        Some(Source { r#type, data }) if r#type == "base64" && is_base64(&data) => Ok(data),
        _ => Err(format!("{place}.source: only images in base64 are supported: nothing is fetched")),
    }
}
