//! Messages of a chat completion request as Ollama takes them.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Value,
    name: Option<String>,
    reasoning: Option<String>,
    tool_calls: Option<Vec<ToolCall>>,
    tool_call_id: Option<String>,
}

#[derive(Deserialize)]
struct ToolCall {
    #[serde(default)]
    id: String,
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    arguments: String,
}

/// Translates the messages in their order.
///
/// # Errors
/// A message that names the place that is wrong or not supported.
pub fn translate_messages(messages: &[Value]) -> Result<Value, String> {
    let mut tools_by_call = HashMap::new();
    let translated = messages.iter().enumerate().map(|(index, message)| {
        let place = format!("messages[{index}]");
        let message = Message::deserialize(message).map_err(|error| format!("{place}: {error}"))?;
        translate_message(&place, message, &mut tools_by_call)
    });
    translated.collect::<Result<Vec<_>, String>>().map(Value::Array)
}

fn translate_message(place: &str, message: Message, tools: &mut HashMap<String, String>) -> Result<Value, String> {
    let role = match message.role.as_str() {
        "developer" => "system",
        role @ ("system" | "user" | "assistant" | "tool") => role,
        other => return Err(format!("{place}.role: {other:?} is not supported")),
    };
    let (text, images) = content(place, &message.content)?;
    let mut out = Map::new();
    out.insert("role".into(), role.into());
    out.insert("content".into(), text.into());
    if !images.is_empty() {
        out.insert("images".into(), images.into());
    }
    if let Some(reasoning) = message.reasoning {
        out.insert("thinking".into(), reasoning.into());
    }
    let mut calls = Vec::new();
    for (index, call) in message.tool_calls.into_iter().flatten().enumerate() {
        let place = format!("{place}.tool_calls[{index}]");
        calls.push(translate_call(&place, &call)?);
        tools.insert(call.id, call.function.name);
    }
    if !calls.is_empty() {
        out.insert("tool_calls".into(), calls.into());
    }
    if role == "tool" {
        // Ollama's templates go by the tool's name, OpenAI's messages by the id of the call.
        let id = message.tool_call_id.unwrap_or_default();
        if let Some(name) = message.name.as_ref().or_else(|| tools.get(&id)) {
            out.insert("tool_name".into(), name.as_str().into());
        }
        out.insert("tool_call_id".into(), id.into());
    }
    Ok(Value::Object(out))
}

fn translate_call(place: &str, call: &ToolCall) -> Result<Value, String> {
    let written = if call.function.arguments.trim().is_empty() { "{}" } else { &call.function.arguments };
    let arguments: Map<String, Value> = serde_json::from_str(written)
        .map_err(|error| format!("{place}.function.arguments: not a JSON object: {error}"))?;
    Ok(json!({ "id": call.id, "function": { "name": call.function.name, "arguments": arguments } }))
}

/// Text and images of a message's content. Parts of text are joined by line ends.
fn content(place: &str, content: &Value) -> Result<(String, Vec<String>), String> {
    let parts = match content {
        Value::Null => return Ok((String::new(), Vec::new())),
        Value::String(text) => return Ok((text.clone(), Vec::new())),
        Value::Array(parts) => parts,
        _ => return Err(format!("{place}.content: write a string or a list of parts")),
    };
    let (mut texts, mut images) = (Vec::new(), Vec::new());
    for (index, part) in parts.iter().enumerate() {
        let place = format!("{place}.content[{index}]");
        match part["type"].as_str() {
            Some("text") => texts.push(part["text"].as_str().ok_or_else(|| format!("{place}.text: write a string"))?),
            Some("image_url") => images.push(image(&place, &part["image_url"])?),
            Some(other) => return Err(format!("{place}: parts of type {other:?} are not supported")),
            None => return Err(format!("{place}.type is required")),
        }
    }
    Ok((texts.join("\n"), images))
}

/// The base64 text of an image given as a `data:` URL.
fn image(place: &str, image: &Value) -> Result<String, String> {
    let url =
        image["url"].as_str().or_else(|| image.as_str()).ok_or_else(|| format!("{place}.image_url.url is required"))?;
    let data = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    match data {
        Some((kind, data)) if kind.starts_with("image/") && !data.is_empty() => Ok(data.into()),
        _ => Err(format!("{place}.image_url: only data:image/…;base64,… URLs are supported: nothing is fetched")),
    }
}
