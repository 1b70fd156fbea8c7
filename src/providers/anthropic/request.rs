//! A request to `/api/chat` as one to `/v1/messages`.

use serde_json::{Map, Value, json};

use super::super::{
    image::media_type,
    native::{Message, Request},
    openai::put_options,
};
use crate::domain::provider::Offer;

/// The API wants a limit for every answer.
const MAX_TOKENS: u64 = 4096;
/// The fewest tokens that the API lets a model think for.
const LEAST_BUDGET: u64 = 1024;

/// The body of `/v1/messages` for a request.
///
/// # Errors
/// For the caller: what can't be done, or asks for more than the model does.
pub fn messages(request: Request, offer: &Offer) -> Result<Value, String> {
    if request.logprobs {
        return Err("logprobs: not supported by Anthropic's API".into());
    }
    let mut body = request.rest;
    put_options(&mut body, request.options, offer)?;
    let limit = offer.max_output_tokens.map_or(MAX_TOKENS, u64::from);
    body.entry("max_tokens").or_insert(limit.into());
    if let Some(budget) = request.think.as_ref().and_then(budget) {
        let most = body["max_tokens"].as_u64().unwrap_or(limit) / 2;
        if most < LEAST_BUDGET {
            return Err(format!("think: takes a num_predict of at least {}", 2 * LEAST_BUDGET));
        }
        body.insert("thinking".into(), json!({ "type": "enabled", "budget_tokens": budget.min(most) }));
    }
    match request.format {
        Some(Value::String(name)) if name.is_empty() => {}
        Some(Value::String(_)) => return Err("format: Anthropic's API takes a JSON schema only".into()),
        Some(schema) => {
            let format = json!({ "format": { "type": "json_schema", "schema": schema } });
            body.insert("output_config".into(), format);
        }
        None => {}
    }
    let (system, others): (Vec<Message>, Vec<Message>) =
        request.messages.into_iter().partition(|message| message.role == "system");
    let system: Vec<String> = system.into_iter().map(|message| message.content).collect();
    if !system.is_empty() {
        body.insert("system".into(), system.join("\n\n").into());
    }
    body.insert("messages".into(), joined(others));
    if !request.tools.is_empty() {
        body.insert("tools".into(), request.tools.iter().map(tool).collect());
    }
    if request.stream {
        body.insert("stream".into(), true.into());
    }
    body.insert("model".into(), request.model.into());
    Ok(body.into())
}

/// How many tokens a wish to think is good for.
fn budget(think: &Value) -> Option<u64> {
    match think {
        Value::Bool(true) => Some(4 * LEAST_BUDGET),
        Value::String(level) => match level.as_str() {
            "low" => Some(LEAST_BUDGET),
            "high" => Some(16 * LEAST_BUDGET),
            _ => Some(4 * LEAST_BUDGET),
        },
        _ => None,
    }
}

/// The messages, where those of one side that follow each other become one: results of tools have to come together.
fn joined(messages: Vec<Message>) -> Value {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in messages {
        let side = if message.role == "assistant" { "assistant" } else { "user" };
        let said = blocks(message);
        match turns.last_mut() {
            Some((last, blocks)) if *last == side => blocks.extend(said),
            _ => turns.push((side, said)),
        }
    }
    turns.into_iter().map(|(role, content)| json!({ "role": role, "content": content })).collect()
}

fn blocks(message: Message) -> Vec<Value> {
    let Message { role, content, images, tool_calls, tool_call_id, .. } = message;
    if role == "tool" {
        return vec![json!({ "type": "tool_result", "tool_use_id": tool_call_id, "content": content })];
    }
    let text = (!content.is_empty()).then(|| json!({ "type": "text", "text": content }));
    let images = images.into_iter().map(|data| {
        let source = json!({ "type": "base64", "media_type": media_type(&data), "data": data });
        json!({ "type": "image", "source": source })
    });
    let calls = tool_calls.into_iter().map(|call| {
        json!({ "type": "tool_use", "id": call.id, "name": call.function.name, "input": call.function.arguments })
    });
    text.into_iter().chain(images).chain(calls).collect()
}

fn tool(tool: &Value) -> Value {
    let function = &tool["function"];
    let mut out = Map::new();
    out.insert("name".into(), function["name"].clone());
    out.extend(function.get("description").map(|text| ("description".into(), text.clone())));
    let schema = function.get("parameters").cloned().unwrap_or_else(|| json!({ "type": "object" }));
    out.insert("input_schema".into(), schema);
    out.into()
}
