//! The fields of a request in OpenAI's format, taken one after the other; what is left passes.

use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    domain::params::shape,
    gateway::{
        fields::{Fields, json},
        format::Format,
        parameters::{check, check_all},
        task::{Task, Translated, options},
    },
};

/// What no node needs to know.
const FOR_NOBODY: [&str; 9] = [
    "metadata",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "tool_choice",
    "verbosity",
];

/// A request under translation.
pub struct Wishes {
    asked: Fields,
    fields: Fields,
    options: Fields,
}

impl Wishes {
    /// A request of which nothing is translated yet. Callers may add `options` as Ollama takes them.
    ///
    /// # Errors
    /// What is wrong with those.
    pub fn new(mut asked: Fields) -> Result<Self, String> {
        let options = options(&mut asked)?;
        check_all("options", &options)?;
        Ok(Self { asked, fields: Fields::default(), options })
    }

    /// Takes a field.
    ///
    /// # Errors
    /// A message that names it.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, String> {
        self.asked.take(name)
    }

    /// Takes a field as it was written.
    pub fn take_json(&mut self, name: &str) -> Option<Bytes> {
        self.asked.remove(name)
    }

    /// Sets a field of the translation.
    pub fn set(&mut self, name: &str, value: Bytes) {
        self.fields.set(name, value);
    }

    /// Refuses fields that ask for something.
    ///
    /// # Errors
    /// The first that does.
    pub fn refuse(&mut self, names: &[&str]) -> Result<(), String> {
        let asks = |value: &Value| match value {
            Value::Object(map) => !map.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Null | Value::Bool(false) => false,
            Value::Number(number) => number.as_f64() != Some(0.0),
            _ => true,
        };
        for name in names {
            if self.take::<Value>(name)?.is_some_and(|value| asks(&value)) {
                return Err(format!("{name}: not supported"));
            }
        }
        Ok(())
    }

    /// Refuses a number of answers other than one.
    ///
    /// # Errors
    /// That there can be only one.
    pub fn only_one(&mut self, name: &str) -> Result<(), String> {
        match self.take::<i64>(name)? {
            None | Some(1) => Ok(()),
            Some(_) => Err(format!("{name}: only 1 choice is supported")),
        }
    }

    /// Takes a field that is an option of Ollama's by another name.
    ///
    /// # Errors
    /// Field, value and range.
    pub fn option(&mut self, name: &str, option: &str) -> Result<(), String> {
        let Some(value) = self.asked.remove(name) else { return Ok(()) };
        check(name, option, &value)?;
        self.options.set(option, value);
        Ok(())
    }

    /// Takes what all requests for text have: `longest` is the name of the longest answer.
    ///
    /// # Errors
    /// Field, value and range.
    pub fn sampling(&mut self, longest: &str) -> Result<(), String> {
        self.option(longest, "num_predict")?;
        if let Some(stop) = self.asked.remove("stop") {
            let stop = if stop.starts_with(b"\"") { [b"[", &stop[..], b"]"].concat().into() } else { stop };
            check("stop", "stop", &stop).map_err(|_| "stop: write a string or a list of strings")?;
            self.options.set("stop", stop);
        }
        Ok(())
    }

    /// Takes whether the answer is to come piece by piece; whether a stream ends with the token counts.
    ///
    /// # Errors
    /// A message that names the field.
    pub fn stream(&mut self) -> Result<bool, String> {
        #[derive(Default, Deserialize)]
        struct StreamOptions {
            #[serde(default)]
            include_usage: bool,
        }
        let stream = self.take("stream")?.unwrap_or(false);
        self.set("stream", json(stream));
        Ok(self.take::<StreamOptions>("stream_options")?.unwrap_or_default().include_usage)
    }

    /// Refuses a choice of tools that Ollama doesn't know; false when there are to be none.
    ///
    /// # Errors
    /// That the choice is not supported.
    pub fn may_call_tools(&self) -> Result<bool, String> {
        match self.asked.read::<Value>("tool_choice")? {
            None => Ok(true),
            Some(Value::String(choice)) if choice == "auto" => Ok(true),
            Some(Value::String(choice)) if choice == "none" => Ok(false),
            Some(_) => Err("tool_choice: only \"auto\" and \"none\" are supported".into()),
        }
    }

    /// The translation. What was not taken passes: as an option where Ollama has one of that name, else as it is.
    ///
    /// # Errors
    /// Field, value and range of an option.
    pub fn translated(mut self, task: Task, format: Format) -> Result<Translated, String> {
        let session = self.asked.remove("prompt_cache_key");
        let session = self.asked.remove("user").or(session);
        FOR_NOBODY.iter().for_each(|name| drop(self.asked.remove(name)));
        for (name, value) in self.asked.iter() {
            if shape(name).is_some() {
                check(name, name, value)?;
                self.options.set(name, value.clone());
            } else if self.fields.get(name).is_none() {
                self.fields.set(name, value.clone());
            }
        }
        let (fields, options) = (self.fields, self.options);
        Ok(Translated { format, task, fields, options, session, lenient_thinking: false })
    }
}
