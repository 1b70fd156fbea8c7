//! A request for a message as a request to `/api/chat`.

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::{Value, json as object};

use super::messages::{system, translate_messages};
use crate::gateway::{
    fields::{Fields, json},
    format::Format,
    parameters::{check, check_all},
    sse::put_json,
    task::{Task, Translated, options},
};

/// What no node needs to know.
const FOR_NOBODY: [&str; 5] = ["betas", "cache_control", "container", "context_management", "service_tier"];

/// Translates the body of `/v1/messages`.
///
/// # Errors
/// A message that names the field that is wrong or not supported.
pub fn translate(mut asked: Fields) -> Result<Translated, String> {
    let mut options = options(&mut asked)?;
    check_all("options", &options)?;
    match asked.read::<f64>("max_tokens")? {
        Some(longest) if longest >= 1.0 => {}
        _ => return Err("max_tokens is required, and greater than 0".into()),
    }
    for (name, option) in [
        ("max_tokens", "num_predict"),
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("top_k", "top_k"),
        ("stop_sequences", "stop"),
    ] {
        if let Some(value) = asked.remove(name) {
            check(name, option, &value)?;
            options.set(option, value);
        }
    }
    let messages = messages(&mut asked)?;
    let tools = tools(&mut asked)?;
    let think = think(&mut asked)?;
    let session = session(&mut asked)?;
    let format = format(&mut asked)?;
    if asked.remove("mcp_servers").is_some_and(|servers| &*servers != b"[]") {
        return Err("mcp_servers: not supported".into());
    }
    let stream = asked.take("stream")?.unwrap_or(false);
    FOR_NOBODY.iter().for_each(|name| drop(asked.remove(name)));
    let mut fields = asked;
    fields.set("messages", messages);
    fields.set("stream", json(stream));
    if let Some(tools) = tools {
        fields.set("tools", json(tools));
    }
    if let Some(think) = think {
        fields.set("think", json(think));
    }
    if let Some(format) = format {
        fields.set("format", format);
    }
    Ok(Translated { format: Format::Message, task: Task::Chat, fields, options, session, lenient_thinking: true })
}

fn messages(asked: &mut Fields) -> Result<Bytes, String> {
    let written = asked.remove("messages").ok_or("messages is required")?;
    let system_prompt = asked.remove("system");
    let mut all = Vec::new();
    if let Some(prompt) = &system_prompt {
        all.extend(system(prompt)?);
    }
    let messages = translate_messages(&written)?;
    if messages.is_empty() {
        return Err("messages: write at least one".into());
    }
    all.extend(messages);
    let mut out = BytesMut::new();
    put_json(&mut out, &all);
    Ok(out.freeze())
}

#[derive(Deserialize)]
struct Tool {
    r#type: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
    input_schema: Option<Value>,
}

fn tools(asked: &mut Fields) -> Result<Option<Value>, String> {
    #[derive(Deserialize)]
    struct Choice {
        r#type: String,
    }
    let may_call = match asked.take::<Choice>("tool_choice")?.as_ref().map(|choice| &*choice.r#type) {
        None | Some("auto") => true,
        Some("none") => false,
        Some(_) => return Err("tool_choice.type: only \"auto\" and \"none\" are supported".into()),
    };
    let Some(tools) = asked.take::<Vec<Tool>>("tools")? else { return Ok(None) };
    let translate = |(index, tool): (usize, Tool)| match tool.r#type.as_deref() {
        None | Some("custom") if !tool.name.is_empty() => {
            let parameters = tool.input_schema.unwrap_or_else(|| object!({ "type": "object", "properties": {} }));
            let function = object!({ "name": tool.name, "description": tool.description, "parameters": parameters });
            Ok(object!({ "type": "function", "function": function }))
        }
        _ => Err(format!("tools[{index}]: only tools of the caller's own, with a name, are supported")),
    };
    let translated = tools.into_iter().enumerate().map(translate).collect::<Result<Vec<_>, String>>()?;
    Ok((may_call && !translated.is_empty()).then_some(Value::Array(translated)))
}

fn think(asked: &mut Fields) -> Result<Option<bool>, String> {
    #[derive(Deserialize)]
    struct Thinking {
        r#type: String,
    }
    match asked.take::<Thinking>("thinking")?.as_ref().map(|thinking| &*thinking.r#type) {
        None => Ok(None),
        Some("enabled" | "adaptive") => Ok(Some(true)),
        Some("disabled") => Ok(Some(false)),
        Some(other) => Err(format!("thinking.type: {other:?} is not supported: use enabled or disabled")),
    }
}

/// The schema that the answer must keep to; an effort besides is for nobody.
fn format(asked: &mut Fields) -> Result<Option<Bytes>, String> {
    #[derive(Deserialize)]
    struct Output {
        format: Option<OutputFormat>,
    }
    #[derive(Deserialize)]
    struct OutputFormat {
        r#type: String,
        schema: Option<Value>,
    }
    match asked.take::<Output>("output_config")?.and_then(|output| output.format) {
        None => Ok(None),
        Some(OutputFormat { r#type, schema: Some(schema) }) if r#type == "json_schema" => Ok(Some(json(schema))),
        Some(_) => Err("output_config.format: only type json_schema, with a schema, is supported".into()),
    }
}

fn session(asked: &mut Fields) -> Result<Option<Bytes>, String> {
    #[derive(Deserialize)]
    struct Metadata {
        user_id: Option<String>,
    }
    Ok(asked.take::<Metadata>("metadata")?.and_then(|metadata| metadata.user_id).map(json))
}
