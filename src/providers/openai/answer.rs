//! A whole chat completion as Ollama's answer; and what its parts have in common with streamed ones.

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::super::native::{End, Function, Said, ToolCall, Writer};

/// A chat completion, or a piece of one.
#[derive(Deserialize)]
pub struct Completion {
    /// Only the first is asked for.
    #[serde(default)]
    pub choices: Vec<Choice>,
    /// Numbers of tokens.
    pub usage: Option<Usage>,
    /// Why there is no answer: some say so with status 200.
    pub error: Option<Value>,
}

/// One answer.
#[derive(Deserialize)]
pub struct Choice {
    /// All of it.
    pub message: Option<Message>,
    /// A piece of it.
    pub delta: Option<Message>,
    /// Why it ended.
    pub finish_reason: Option<String>,
    /// How likely each token was.
    pub logprobs: Option<Logprobs>,
}

/// What is said.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Message {
    content: Option<Value>,
    /// Servers don't agree on the name.
    reasoning: Option<Value>,
    reasoning_content: Option<Value>,
    refusal: Option<String>,
    /// Tools that it wants called.
    pub tool_calls: Option<Vec<Call>>,
}

/// A tool that the model wants called, or a piece of that.
#[derive(Deserialize)]
pub struct Call {
    /// Its place among the answer's calls.
    pub index: Option<usize>,
    /// Its id.
    pub id: Option<String>,
    /// What is called.
    #[serde(default)]
    pub function: Called,
}

/// A function and its arguments as JSON in a text.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Called {
    /// Its name.
    pub name: Option<String>,
    /// Its arguments, or a piece of them.
    pub arguments: Option<String>,
}

/// How likely each token was.
#[derive(Deserialize)]
pub struct Logprobs {
    /// In the same words as Ollama's.
    pub content: Option<Box<RawValue>>,
}

/// Numbers of tokens.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Read.
    pub prompt_tokens: u64,
    /// Written.
    pub completion_tokens: u64,
}

impl Message {
    /// What is said, but for the calls.
    pub fn said(&self) -> Said {
        let thinking = self.reasoning.as_ref().or(self.reasoning_content.as_ref());
        let content = text(self.content.as_ref());
        let content = if content.is_empty() { self.refusal.clone().unwrap_or_default() } else { content };
        Said { content, thinking: text(thinking), ..Said::default() }
    }
}

/// A text, or the texts of a list of parts.
fn text(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// A call from its pieces.
///
/// # Errors
/// That the model's arguments are no JSON object, which Ollama's API has no place for.
pub fn call(index: usize, id: String, name: String, arguments: &str) -> Result<ToolCall, String> {
    let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
    let arguments: Map<String, Value> = serde_json::from_str(arguments)
        .map_err(|_| format!("the model calls the tool {name} with arguments that are no JSON object"))?;
    Ok(ToolCall { id, function: Function { index: Some(index), name, arguments } })
}

/// How an answer ended, in Ollama's words where it has some.
pub fn end(finish_reason: &str, usage: Usage) -> End {
    let reason = if finish_reason == "tool_calls" || finish_reason == "function_call" { "stop" } else { finish_reason };
    End { reason: reason.into(), prompt: usage.prompt_tokens, completion: usage.completion_tokens }
}

/// Translates a whole answer.
///
/// # Errors
/// The provider's own words, or that this is no answer.
pub fn whole(answer: &[u8], writer: &Writer, out: &mut Vec<u8>) -> Result<(), String> {
    let completion: Completion =
        serde_json::from_slice(answer).map_err(|_| "the provider's answer is no chat completion".to_owned())?;
    if let Some(error) = &completion.error {
        return Err(words(error));
    }
    let choice = completion.choices.into_iter().next().ok_or("the provider's answer has no choices")?;
    let message = choice.message.unwrap_or_default();
    let mut said = message.said();
    for (index, asked) in message.tool_calls.into_iter().flatten().enumerate() {
        let Called { name, arguments } = asked.function;
        let (name, arguments) = (name.unwrap_or_default(), arguments.unwrap_or_default());
        said.calls.push(call(index, asked.id.unwrap_or_default(), name, &arguments)?);
    }
    said.logprobs = choice.logprobs.and_then(|logprobs| logprobs.content);
    let reason = choice.finish_reason.as_deref().unwrap_or("stop");
    writer.line(&said, Some(&end(reason, completion.usage.unwrap_or_default())), out);
    Ok(())
}

/// What an error says: a text, or an object with a message.
pub fn words(error: &Value) -> String {
    let message = error.as_str().or_else(|| error["message"].as_str()).or_else(|| error["error"].as_str());
    message.map_or_else(|| "the provider failed without saying why".into(), str::to_owned)
}
