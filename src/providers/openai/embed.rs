//! Embeddings: Ollama's requests in OpenAI's words, and back.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use super::{
    super::native::EmbedRequest,
    answer::{Usage, words},
};

/// The body of `/embeddings` for a request.
///
/// # Errors
/// For the caller: what is missing.
pub fn embed(request: EmbedRequest) -> Result<Value, String> {
    let input = request.input.or_else(|| Some(request.prompt.into()));
    let input = input.filter(|input| *input != Value::String(String::new())).ok_or("input is required")?;
    let mut body = Map::new();
    body.insert("model".into(), request.model.into());
    body.insert("input".into(), input);
    body.insert("encoding_format".into(), "float".into());
    body.extend(request.dimensions.map(|length| ("dimensions".into(), length.into())));
    Ok(body.into())
}

#[derive(Deserialize)]
struct Embeddings {
    #[serde(default)]
    data: Vec<Embedding>,
    #[serde(default)]
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Embedding {
    #[serde(default)]
    index: usize,
    /// As it was written: numbers don't change on the way.
    embedding: Box<RawValue>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Embedded<'a> {
    Now { model: &'a str, embeddings: Vec<Box<RawValue>>, prompt_eval_count: u64 },
    Older { embedding: Box<RawValue> },
}

/// The answer as `/api/embed` has it, or, in the `older` form, `/api/embeddings`.
///
/// # Errors
/// The provider's own words, or that this is no answer.
pub fn embedded(answer: &[u8], model: &str, older: bool) -> Result<Vec<u8>, String> {
    let answer: Embeddings =
        serde_json::from_slice(answer).map_err(|_| "the provider's answer has no embeddings".to_owned())?;
    if let Some(error) = &answer.error {
        return Err(words(error));
    }
    let mut vectors = answer.data;
    vectors.sort_by_key(|vector| vector.index);
    let prompt_eval_count = answer.usage.unwrap_or_default().prompt_tokens;
    let mut embeddings: Vec<Box<RawValue>> = vectors.into_iter().map(|vector| vector.embedding).collect();
    let out = match older {
        false => Embedded::Now { model, embeddings, prompt_eval_count },
        true => Embedded::Older { embedding: embeddings.pop().ok_or("the provider's answer has no embeddings")? },
    };
    serde_json::to_vec(&out).map_err(|error| error.to_string())
}
