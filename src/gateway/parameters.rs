//! The parameters of a request: whether a caller may ask for them, and those that take effect.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::fields::{Fields, write_object};
use crate::domain::{
    params::{Shape, Source, shape},
    provider::{Endpoint, has_counterpart},
    run_record::Effective,
};

/// What takes effect in one attempt, as JSON, each with its source.
#[derive(Clone, Debug, Default)]
pub struct Parameters<'a> {
    /// By Ollama's names.
    pub options: BTreeMap<&'a str, (Bytes, Source)>,
    /// How long the model stays in memory afterwards; `None` leaves it to the node.
    pub keep_alive: Option<(Bytes, Source)>,
    /// Names of options that were asked for, but that the provider has nothing like.
    pub dropped: Vec<String>,
}

impl Parameters<'_> {
    /// The options as Ollama takes them; `None` when there are none.
    pub fn write(&self) -> Option<Bytes> {
        let options = self.options.iter().map(|(name, (value, _))| (*name, value));
        (!self.options.is_empty()).then(|| write_object(options))
    }

    /// The same without the options that a provider has nothing like; those are dropped.
    pub fn for_provider(mut self, endpoint: &Endpoint) -> Self {
        let (known, dropped): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.options).into_iter().partition(|(name, _)| has_counterpart(endpoint, name));
        self.options = known;
        self.dropped = dropped.into_keys().map(str::to_owned).collect();
        self
    }

    /// The options as a record has them.
    pub fn effective(&self) -> BTreeMap<String, Effective<Value>> {
        self.options.iter().map(|(name, option)| ((*name).to_owned(), recorded(option))).collect()
    }

    /// How long the model stays in memory, as a record has it.
    pub fn effective_keep_alive(&self) -> Option<Effective<Value>> {
        self.keep_alive.as_ref().map(recorded)
    }
}

fn recorded((value, source): &(Bytes, Source)) -> Effective<Value> {
    Effective { value: serde_json::from_slice(value).unwrap_or_default(), source: *source }
}

/// Checks the value of an option that a caller names `field`. What is no option of Ollama's passes.
///
/// # Errors
/// Field, value and range; of text, only that it is text.
pub fn check(field: &str, option: &str, value: &[u8]) -> Result<(), String> {
    let Some(shape) = shape(option) else { return Ok(()) };
    let fits = match shape {
        Shape::Number(..) | Shape::Whole(..) => serde_json::from_slice(value).is_ok_and(|number| shape.holds(number)),
        Shape::Flag => serde_json::from_slice::<bool>(value).is_ok(),
        Shape::Texts => serde_json::from_slice::<Vec<String>>(value).is_ok(),
    };
    if fits { Ok(()) } else { Err(format!("{field}: {} is not {shape}", shown(value))) }
}

/// Checks all options of an object that a caller names `field`.
///
/// # Errors
/// As [`check`].
pub fn check_all(field: &str, options: &Fields) -> Result<(), String> {
    options.iter().try_for_each(|(name, value)| check(&format!("{field}.{name}"), name, value))
}

/// A value in an error: a number as it is, anything else by its kind.
fn shown(value: &[u8]) -> String {
    match value.first() {
        Some(b'"') => "this text".into(),
        Some(b'[') => "this list".into(),
        Some(b'{') => "this object".into(),
        _ if serde_json::from_slice::<IgnoredAny>(value).is_ok() => String::from_utf8_lossy(value).into_owned(),
        _ => "this".into(),
    }
}
