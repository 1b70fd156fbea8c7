//! What a provider calls Ollama's options.

use super::{Endpoint, Protocol, known_at};
use crate::domain::params::shape;

/// Options of Ollama's that OpenAI's API knows, and their names there.
const OPENAI: [(&str, &str); 7] = [
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("num_predict", "max_tokens"),
    ("stop", "stop"),
    ("seed", "seed"),
    ("presence_penalty", "presence_penalty"),
    ("frequency_penalty", "frequency_penalty"),
];
/// The same for Anthropic's.
const ANTHROPIC: [(&str, &str); 5] = [
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("top_k", "top_k"),
    ("num_predict", "max_tokens"),
    ("stop", "stop_sequences"),
];

/// What the provider calls an option; `None` where it has nothing like it. What is no option of Ollama's is the
/// provider's own and goes by its name.
pub fn counterpart<'a>(endpoint: &Endpoint, option: &'a str) -> Option<&'a str> {
    let table: &[(&'static str, &'static str)] = match endpoint.protocol {
        Protocol::OpenAI => &OPENAI,
        Protocol::Anthropic => &ANTHROPIC,
    };
    let usual = table.iter().find(|(own, _)| *own == option).map(|(_, name)| *name);
    let renames = known_at(&endpoint.url).map_or(&[][..], |known| known.renames);
    let renamed = usual.map(|name| renames.iter().find(|(from, _)| *from == name).map_or(name, |(_, to)| to));
    let is_extra = || endpoint.extra_options.iter().any(|extra| extra == option);
    renamed.or_else(|| (shape(option).is_none() || is_extra()).then_some(option))
}

/// Whether the provider has anything like an option.
pub fn has_counterpart(endpoint: &Endpoint, option: &str) -> bool {
    counterpart(endpoint, option).is_some()
}
