//! How long a prompt is, as far as that can be told without the model.

use serde_json::Value;

/// Bytes of text that a token stands for on average, in English.
const BYTES_PER_TOKEN: u64 = 4;
/// What the model reads of a request.
const READ: [&str; 6] = ["messages", "prompt", "suffix", "system", "input", "tools"];
/// What of that is no text of the prompt.
const NOT_TEXT: [&str; 2] = ["images", "role"];

/// The bytes of text that a request to a node has the model read. Of texts that are embedded one by one, the longest.
pub fn bytes(body: &[u8]) -> u64 {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return 0 };
    let read = fields.iter().filter(|(name, _)| READ.contains(&name.as_str()));
    read.map(|(name, value)| match value {
        Value::Array(texts) if name == "input" => texts.iter().map(length).max().unwrap_or_default(),
        other => length(other),
    })
    .sum()
}

/// About how many tokens they are.
pub fn tokens(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

fn length(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(values) => values.iter().map(length).sum(),
        Value::Object(fields) => {
            let read = fields.iter().filter(|(name, _)| !NOT_TEXT.contains(&name.as_str()));
            read.map(|(_, value)| length(value)).sum()
        }
        _ => 0,
    }
}
