//! A chat completion request as a request to `/api/chat`.
//!
//! What Ollama has no counterpart for is refused by name, not dropped: a caller who asks for three choices and gets
//! one would never know why.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::messages::translate_messages;
use crate::gateway::fields::{Fields, json};

/// A translated request.
#[derive(Clone, Debug)]
pub struct Translated {
    /// The body in Ollama's format.
    pub fields: Fields,
    /// Whether a stream ends with the token counts.
    pub include_usage: bool,
}

#[derive(Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// Translates the body of `/v1/chat/completions`.
///
/// # Errors
/// A message that names the field that is wrong or not supported.
pub fn translate(asked: &Fields) -> Result<Translated, String> {
    refuse_unsupported(asked)?;
    let mut fields = Fields::default();
    if let Some(model) = asked.get("model") {
        fields.set("model", model.clone());
    }
    let messages: Vec<Value> = asked.read("messages")?.ok_or("messages is required")?;
    fields.set("messages", json(translate_messages(&messages)?));
    fields.set("stream", json(asked.read("stream")?.unwrap_or(false)));
    let options = options(asked)?;
    if !options.is_empty() {
        fields.set("options", json(options));
    }
    if let Some(format) = format(asked)? {
        fields.set("format", json(format));
    }
    if let Some(tools) = tools(asked)? {
        fields.set("tools", json(tools));
    }
    if let Some(think) = think(asked)? {
        fields.set("think", json(think));
    }
    let include_usage = asked.read::<StreamOptions>("stream_options")?.unwrap_or_default().include_usage;
    Ok(Translated { fields, include_usage })
}

fn refuse_unsupported(asked: &Fields) -> Result<(), String> {
    if asked.read::<i64>("n")?.is_some_and(|n| n != 1) {
        return Err("n: only 1 choice is supported".into());
    }
    if asked.read::<bool>("logprobs")?.unwrap_or_default() {
        return Err("logprobs: not supported".into());
    }
    let is_empty = |value: &Value| match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    for name in ["logit_bias", "functions", "function_call", "audio"] {
        if asked.read::<Value>(name)?.is_some_and(|value| !is_empty(&value)) {
            return Err(format!("{name}: not supported"));
        }
    }
    match asked.read::<Vec<String>>("modalities")? {
        Some(modalities) if modalities.iter().any(|modality| modality != "text") => {
            Err("modalities: only text is supported".into())
        }
        _ => Ok(()),
    }
}

fn options(asked: &Fields) -> Result<Map<String, Value>, String> {
    let mut options = Map::new();
    for name in ["temperature", "top_p", "presence_penalty", "frequency_penalty"] {
        if let Some(number) = asked.read::<f64>(name)? {
            options.insert(name.into(), number.into());
        }
    }
    if let Some(seed) = asked.read::<i64>("seed")? {
        options.insert("seed".into(), seed.into());
    }
    let longest = asked.read::<i64>("max_completion_tokens")?.or(asked.read::<i64>("max_tokens")?);
    if let Some(longest) = longest {
        options.insert("num_predict".into(), longest.into());
    }
    match asked.read::<Value>("stop")? {
        None => {}
        Some(Value::String(stop)) => drop(options.insert("stop".into(), vec![stop].into())),
        Some(Value::Array(stops)) if stops.iter().all(Value::is_string) => {
            drop(options.insert("stop".into(), stops.into()));
        }
        Some(_) => return Err("stop: write a string or a list of strings".into()),
    }
    Ok(options)
}

#[derive(Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
    json_schema: Option<JsonSchema>,
}

#[derive(Deserialize)]
struct JsonSchema {
    schema: Option<Value>,
}

fn format(asked: &Fields) -> Result<Option<Value>, String> {
    let Some(format) = asked.read::<ResponseFormat>("response_format")? else { return Ok(None) };
    match format.kind.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some("json".into())),
        "json_schema" => match format.json_schema.and_then(|format| format.schema) {
            Some(schema) => Ok(Some(schema)),
            None => Err("response_format.json_schema.schema is required".into()),
        },
        other => Err(format!("response_format.type: {other:?} is not supported: use text, json_object or json_schema")),
    }
}

fn tools(asked: &Fields) -> Result<Option<Value>, String> {
    let tools = asked.read::<Vec<Value>>("tools")?.filter(|tools| !tools.is_empty());
    match asked.read::<Value>("tool_choice")? {
        None => {}
        Some(Value::String(choice)) if choice == "auto" => {}
        Some(Value::String(choice)) if choice == "none" => return Ok(None),
        Some(_) => return Err("tool_choice: only \"auto\" and \"none\" are supported".into()),
    }
    let is_function = |tool: &Value| tool["type"] == "function" && tool["function"]["name"].is_string();
    match tools.iter().flatten().position(|tool| !is_function(tool)) {
        Some(index) => Err(format!("tools[{index}]: only tools of type function, with a name, are supported")),
        None => Ok(tools.map(Value::Array)),
    }
}

fn think(asked: &Fields) -> Result<Option<Value>, String> {
    match asked.read::<String>("reasoning_effort")?.as_deref() {
        None => Ok(None),
        Some("none") => Ok(Some(false.into())),
        Some(effort @ ("low" | "medium" | "high")) => Ok(Some(effort.into())),
        Some(other) => Err(format!("reasoning_effort: {other:?} is not supported: use none, low, medium or high")),
    }
}
