//! A chat completion request as a request to `/api/chat`.
//!
//! What Ollama has no counterpart for is refused by name, not dropped: a caller who asks for three choices and gets
//! one would never know why.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::messages::translate_messages;
use crate::gateway::{
    fields::{Fields, json},
    format::Format,
    openai::wishes::Wishes,
    task::{Task, Translated},
};

/// Translates the body of `/v1/chat/completions`.
///
/// # Errors
/// A message that names the field that is wrong or not supported.
pub fn translate(asked: Fields) -> Result<Translated, String> {
    let mut wishes = Wishes::new(asked)?;
    wishes.only_one("n")?;
    wishes.refuse(&["logit_bias", "functions", "function_call", "audio", "web_search_options"])?;
    if wishes.take::<Vec<String>>("modalities")?.iter().flatten().any(|modality| modality != "text") {
        return Err("modalities: only text is supported".into());
    }
    let messages = wishes.take_json("messages").ok_or("messages is required")?;
    wishes.set("messages", translate_messages(&messages)?);
    wishes.sampling("max_tokens")?;
    wishes.option("max_completion_tokens", "num_predict")?;
    if let Some(format) = format(&mut wishes)? {
        wishes.set("format", format);
    }
    if let Some(tools) = tools(&mut wishes)? {
        wishes.set("tools", tools);
    }
    if let Some(think) = think(&mut wishes)? {
        wishes.set("think", json(think));
    }
    let include_usage = wishes.stream()?;
    wishes.translated(Task::Chat, Format::ChatCompletion { include_usage })
}

#[derive(Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
    json_schema: Option<JsonSchema>,
}

#[derive(Deserialize)]
struct JsonSchema {
    schema: Option<Box<RawValue>>,
}

fn format(wishes: &mut Wishes) -> Result<Option<Bytes>, String> {
    let Some(format) = wishes.take::<ResponseFormat>("response_format")? else { return Ok(None) };
    match format.kind.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(json("json"))),
        "json_schema" => match format.json_schema.and_then(|format| format.schema) {
            Some(schema) => Ok(Some(schema.get().to_owned().into())),
            None => Err("response_format.json_schema.schema is required".into()),
        },
        other => Err(format!("response_format.type: {other:?} is not supported: use text, json_object or json_schema")),
    }
}

fn tools(wishes: &mut Wishes) -> Result<Option<Bytes>, String> {
    let may_call = wishes.may_call_tools()?;
    let tools: Option<Vec<Value>> = wishes.take("tools")?;
    let Some(tools) = tools.filter(|tools| !tools.is_empty() && may_call) else { return Ok(None) };
    let is_function = |tool: &Value| tool["type"] == "function" && tool["function"]["name"].is_string();
    match tools.iter().position(|tool| !is_function(tool)) {
        Some(index) => Err(format!("tools[{index}]: only tools of type function, with a name, are supported")),
        None => Ok(Some(json(tools))),
    }
}

#[derive(Deserialize)]
struct Reasoning {
    effort: Option<String>,
}

fn think(wishes: &mut Wishes) -> Result<Option<Value>, String> {
    let nested = wishes.take::<Reasoning>("reasoning")?.and_then(|reasoning| reasoning.effort);
    let own = wishes.take::<String>("reasoning_effort")?;
    match (nested, own) {
        (Some(effort), _) => think_by("reasoning.effort", &effort),
        (None, Some(effort)) => think_by("reasoning_effort", &effort),
        (None, None) => return Ok(None),
    }
    .map(Some)
}

/// Ollama's `think` for an effort that a caller names in `field`.
///
/// # Errors
/// That there is no such effort.
pub fn think_by(field: &str, effort: &str) -> Result<Value, String> {
    match effort {
        "none" => Ok(false.into()),
        "minimal" => Ok("low".into()),
        "low" | "medium" | "high" => Ok(effort.into()),
        other => Err(format!("{field}: {other:?} is not supported: use none, minimal, low, medium or high")),
    }
}
