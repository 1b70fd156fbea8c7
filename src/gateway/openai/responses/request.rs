//! A request for a response as a request to `/api/chat`.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::{Value, json as object, value::RawValue};

use super::{echo::Echo, input::translate_input};
use crate::gateway::{
    fields::{Fields, json},
    format::Format,
    native::{Content, Message},
    openai::{chat::request::think_by, wishes::Wishes},
    sse::put_json,
    task::{Task, Translated},
};

/// Translates the body of `/v1/responses`.
///
/// # Errors
/// A message that names the field that is wrong or not supported.
pub fn translate(asked: Fields) -> Result<Translated, String> {
    let echo = Echo::of(&asked)?;
    let mut wishes = Wishes::new(asked)?;
    for name in ["previous_response_id", "conversation"] {
        wishes.refuse(&[name]).map_err(|_| format!("{name}: nothing is kept; send all that was said as input"))?;
    }
    wishes.refuse(&["background", "prompt"])?;
    drop(wishes.take_json("include"));
    let messages = messages(&mut wishes)?;
    wishes.set("messages", messages);
    wishes.option("max_output_tokens", "num_predict")?;
    if let Some(schema) = format(&mut wishes)? {
        wishes.set("format", schema);
    }
    if let Some(tools) = tools(&mut wishes)? {
        wishes.set("tools", json(tools));
    }
    if let Some(effort) = wishes.take::<Reasoning>("reasoning")?.and_then(|reasoning| reasoning.effort) {
        wishes.set("think", json(think_by("reasoning.effort", &effort)?));
    }
    match wishes.take::<String>("truncation")?.as_deref() {
        None => {}
        Some("auto") => wishes.set("truncate", json(true)),
        Some("disabled") => wishes.set("truncate", json(false)),
        Some(other) => return Err(format!("truncation: {other:?} is not supported: use auto or disabled")),
    }
    wishes.stream()?;
    let translated = wishes.translated(Task::Chat, Format::Response(Arc::new(echo)))?;
    Ok(Translated { lenient_thinking: true, ..translated })
}

#[derive(Deserialize)]
struct Reasoning {
    effort: Option<String>,
}

fn messages(wishes: &mut Wishes) -> Result<Bytes, String> {
    let instructions: Option<String> = wishes.take("instructions")?;
    let input = wishes.take_json("input").ok_or("input is required")?;
    let mut all = Vec::new();
    if let Some(instructions) = instructions.filter(|text| !text.is_empty()) {
        all.push(Message::says("system", Content::Text(instructions)));
    }
    all.extend(translate_input(&input)?);
    let mut out = BytesMut::with_capacity(input.len() + 64);
    put_json(&mut out, &all);
    Ok(out.freeze())
}

fn format(wishes: &mut Wishes) -> Result<Option<Bytes>, String> {
    #[derive(Deserialize)]
    struct Text {
        format: Option<TextFormat>,
    }
    #[derive(Deserialize)]
    struct TextFormat {
        r#type: String,
        schema: Option<Box<RawValue>>,
    }
    let Some(format) = wishes.take::<Text>("text")?.and_then(|text| text.format) else { return Ok(None) };
    match (&*format.r#type, format.schema) {
        ("text", _) => Ok(None),
        ("json_object", _) => Ok(Some(json("json"))),
        ("json_schema", Some(schema)) => Ok(Some(schema.get().to_owned().into())),
        ("json_schema", None) => Err("text.format.schema is required".into()),
        (other, _) => {
            Err(format!("text.format.type: {other:?} is not supported: use text, json_object or json_schema"))
        }
    }
}

fn tools(wishes: &mut Wishes) -> Result<Option<Value>, String> {
    #[derive(Deserialize)]
    struct Tool {
        r#type: String,
        #[serde(default)]
        name: String,
        description: Option<String>,
        parameters: Option<Value>,
    }
    let may_call = wishes.may_call_tools()?;
    let tools = wishes.take::<Vec<Tool>>("tools")?.unwrap_or_default();
    let translate = |(index, tool): (usize, Tool)| {
        if tool.r#type != "function" || tool.name.is_empty() {
            return Err(format!("tools[{index}]: only tools of type function, with a name, are supported"));
        }
        let parameters = tool.parameters.unwrap_or_else(|| object!({ "type": "object", "properties": {} }));
        let description = tool.description.unwrap_or_default();
        let function = object!({ "name": tool.name, "description": description, "parameters": parameters });
        Ok(object!({ "type": "function", "function": function }))
    };
    let translated = tools.into_iter().enumerate().map(translate).collect::<Result<Vec<_>, String>>()?;
    Ok((may_call && !translated.is_empty()).then_some(Value::Array(translated)))
}
