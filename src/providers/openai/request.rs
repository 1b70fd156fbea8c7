//! A request to `/api/chat` as a chat completion request.

use serde_json::{Map, Value, json};

use super::super::{
    image::media_type,
    native::{Message, Request},
};
use crate::domain::provider::{Offer, counterpart};

/// The body of `/chat/completions` for a request.
///
/// # Errors
/// For the caller: which field asks for more than the model does.
pub fn chat(request: Request, offer: &Offer) -> Result<Value, String> {
    let mut body = request.rest;
    body.insert("model".into(), request.model.into());
    body.insert("messages".into(), request.messages.into_iter().map(message).collect());
    if !request.tools.is_empty() {
        body.insert("tools".into(), request.tools.into());
    }
    if let Some(format) = request.format.and_then(response_format) {
        body.insert("response_format".into(), format);
    }
    if let Some(effort) = request.think.as_ref().and_then(effort) {
        body.insert("reasoning_effort".into(), effort.into());
    }
    if request.logprobs {
        body.insert("logprobs".into(), true.into());
        body.extend(request.top_logprobs.map(|top| ("top_logprobs".into(), top.into())));
    }
    if request.stream {
        body.insert("stream".into(), true.into());
        body.insert("stream_options".into(), json!({ "include_usage": true }));
    }
    put_options(&mut body, request.options, offer)?;
    Ok(body.into())
}

/// Writes options by the provider's names. A limit below one token means none in Ollama's API.
///
/// # Errors
/// That an answer longer than the model writes is asked for.
pub fn put_options(body: &mut Map<String, Value>, options: Map<String, Value>, offer: &Offer) -> Result<(), String> {
    for (option, value) in options {
        if option == "num_predict" {
            let limit = value.as_f64().unwrap_or_default();
            if limit < 1.0 {
                continue;
            }
            if let Some(most) = offer.max_output_tokens.filter(|most| limit > f64::from(*most)) {
                let message = format!("options.num_predict: {value} is not in the range from 1 to {most}");
                return Err(format!("{message}: those are the tokens that one answer of the model may have"));
            }
        }
        if let Some(name) = counterpart(&offer.endpoint, &option) {
            body.insert(name.into(), value);
        }
    }
    Ok(())
}

fn message(message: Message) -> Value {
    let Message { role, content, images, tool_calls, tool_call_id, .. } = message;
    let mut out = Map::new();
    if images.is_empty() {
        out.insert("content".into(), content.into());
    } else {
        let text = (!content.is_empty()).then(|| json!({ "type": "text", "text": content }));
        let images = images.into_iter().map(|image| {
            let url = format!("data:{};base64,{image}", media_type(&image));
            json!({ "type": "image_url", "image_url": { "url": url } })
        });
        out.insert("content".into(), text.into_iter().chain(images).collect());
    }
    if role == "tool" {
        out.insert("tool_call_id".into(), tool_call_id.into());
    }
    if !tool_calls.is_empty() {
        let calls = tool_calls.into_iter().map(|call| {
            let arguments = Value::Object(call.function.arguments).to_string();
            json!({ "id": call.id, "type": "function", "function": { "name": call.function.name, "arguments": arguments } })
        });
        out.insert("tool_calls".into(), calls.collect());
    }
    out.insert("role".into(), role.into());
    out.into()
}

/// Ollama answers within a schema's grammar; a provider promises that only for strict schemas, and takes only certain
/// ones for strict.
fn response_format(format: Value) -> Option<Value> {
    match format {
        Value::String(name) if name.is_empty() => None,
        Value::String(_) => Some(json!({ "type": "json_object" })),
        schema => {
            let strict = is_strict(&schema);
            let named = json!({ "name": "answer", "strict": strict, "schema": schema });
            Some(json!({ "type": "json_schema", "json_schema": named }))
        }
    }
}

/// Whether every object in a schema requires all of its properties and allows no others.
fn is_strict(schema: &Value) -> bool {
    let own = match schema {
        Value::Object(fields) if fields.get("properties").is_some_and(Value::is_object) => {
            let required = fields.get("required").and_then(Value::as_array);
            let is_required =
                |name: &String| required.is_some_and(|required| required.iter().any(|r| r == name.as_str()));
            let properties = fields["properties"].as_object();
            fields.get("additionalProperties") == Some(&Value::Bool(false))
                && properties.is_none_or(|properties| properties.keys().all(is_required))
        }
        Value::Object(fields) => fields.get("type").is_none_or(|kind| kind != "object"),
        _ => true,
    };
    own && match schema {
        Value::Object(fields) => fields.values().all(is_strict),
        Value::Array(items) => items.iter().all(is_strict),
        _ => true,
    }
}

/// The effort that a wish to think asks for. That a model is to think, but not how much, is left to the provider.
fn effort(think: &Value) -> Option<&str> {
    match think {
        Value::Bool(false) => Some("none"),
        Value::String(level) => Some(level),
        _ => None,
    }
}
