//! Embeddings in terms of Ollama's `/api/embed`.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json as object, value::RawValue};

use super::wishes::Wishes;
use crate::{
    gateway::{
        fields::{Fields, json},
        format::{Format, Translator},
        said::Said,
        sse::put_json,
        task::{Task, Translated},
    },
    ports::NodeError,
};

/// Translates the body of `/v1/embeddings`.
///
/// # Errors
/// A message that names the field that is wrong or not supported.
pub fn translate(asked: Fields) -> Result<Translated, String> {
    let mut wishes = Wishes::new(asked)?;
    let input = match wishes.take::<Value>("input")? {
        None => return Err("input is required".into()),
        // Ollama takes no text at all for the wish to load the model.
        Some(Value::String(text)) => object!([text]),
        Some(Value::Array(texts)) if !texts.is_empty() && texts.iter().all(Value::is_string) => texts.into(),
        Some(_) => return Err("input: write a string or a list of strings; tokens are not supported".into()),
    };
    wishes.set("input", json(input));
    let base64 = match wishes.take::<String>("encoding_format")?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => return Err(format!("encoding_format: {other:?} is not supported: use float or base64")),
    };
    wishes.translated(Task::Embed, Format::Embeddings { base64 })
}

/// Writes a list of embeddings.
#[derive(Clone, Debug)]
pub struct Embeddings {
    model: String,
    base64: bool,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    embeddings: Vec<&'a RawValue>,
    #[serde(default)]
    prompt_eval_count: u64,
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Embedding<'a>>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Embedding<'a> {
    object: &'static str,
    embedding: Numbers<'a>,
    index: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Numbers<'a> {
    Listed(&'a RawValue),
    Packed(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

impl Embeddings {
    /// For an answer by this model; its numbers packed or listed.
    pub fn new(model: String, base64: bool) -> Self {
        Self { model, base64 }
    }

    fn numbers<'a>(&self, listed: &'a RawValue) -> Result<Numbers<'a>, NodeError> {
        if !self.base64 {
            return Ok(Numbers::Listed(listed));
        }
        let numbers: Vec<f32> = serde_json::from_str(listed.get()).map_err(|_| not_embeddings())?;
        let packed: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        Ok(Numbers::Packed(STANDARD.encode(packed)))
    }
}

impl Translator for Embeddings {
    fn line(&mut self, _: &Said<'_>, _: &mut BytesMut) -> Result<(), NodeError> {
        Err(not_embeddings())
    }

    fn end(&mut self, _: &mut BytesMut) -> bool {
        false
    }

    fn whole(&self, answer: &[u8]) -> Result<Bytes, NodeError> {
        Said::read(answer)?;
        let answer: Answer<'_> = serde_json::from_slice(answer).map_err(|_| not_embeddings())?;
        let data = answer.embeddings.into_iter().enumerate().map(|(index, listed)| {
            self.numbers(listed).map(|embedding| Embedding { object: "embedding", embedding, index })
        });
        let data = data.collect::<Result<Vec<_>, _>>()?;
        let (prompt_tokens, total_tokens) = (answer.prompt_eval_count, answer.prompt_eval_count);
        let usage = Usage { prompt_tokens, total_tokens };
        let mut out = BytesMut::new();
        put_json(&mut out, &List { object: "list", data, model: &self.model, usage });
        Ok(out.freeze())
    }
}

fn not_embeddings() -> NodeError {
    NodeError::Broken("the answer is not a list of embeddings".into())
}
