//! What a response repeats of its request.

use serde_json::{Map, Value, json as object};

use crate::gateway::fields::Fields;

/// The parts of a response object that the request decides.
#[derive(Clone, Debug)]
pub struct Echo(Map<String, Value>);

/// What is repeated as it came, and what stands there when it didn't.
fn repeated() -> [(&'static str, Value); 12] {
    [
        ("instructions", Value::Null),
        ("tools", object!([])),
        ("tool_choice", "auto".into()),
        ("parallel_tool_calls", true.into()),
        ("truncation", "disabled".into()),
        ("text", object!({ "format": { "type": "text" } })),
        ("reasoning", Value::Null),
        ("temperature", object!(1.0)),
        ("top_p", object!(1.0)),
        ("max_output_tokens", Value::Null),
        ("metadata", object!({})),
        ("top_logprobs", 0.into()),
    ]
}

/// What never differs: nothing is kept, nothing runs in the background.
fn fixed() -> [(&'static str, Value); 12] {
    [
        ("object", "response".into()),
        ("background", false.into()),
        ("error", Value::Null),
        ("frequency_penalty", 0.into()),
        ("incomplete_details", Value::Null),
        ("max_tool_calls", Value::Null),
        ("presence_penalty", 0.into()),
        ("previous_response_id", Value::Null),
        ("prompt_cache_key", Value::Null),
        ("safety_identifier", Value::Null),
        ("service_tier", "default".into()),
        ("store", false.into()),
    ]
}

impl Echo {
    /// Of this request.
    ///
    /// # Errors
    /// A message that names the field that is no JSON.
    pub fn of(asked: &Fields) -> Result<Self, String> {
        let mut echo: Map<_, _> = fixed().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        for (name, otherwise) in repeated() {
            echo.insert(name.into(), asked.read(name)?.unwrap_or(otherwise));
        }
        Ok(Self(echo))
    }

    /// The whole object with the parts that the answer decides.
    pub fn response(&self, parts: Value) -> Value {
        let mut response = self.0.clone();
        if let Value::Object(parts) = parts {
            response.extend(parts);
        }
        Value::Object(response)
    }
}
