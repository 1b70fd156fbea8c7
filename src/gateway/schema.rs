//! Whether an answer keeps to the JSON schema that its request brought: pure.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::{fields::describe, said::Said};
use crate::ports::NodeError;

/// Says by what an answer is checked.
pub struct SchemaCheck {
    /// `None`: any JSON will do.
    schema: Option<Validator>,
}

impl SchemaCheck {
    /// For a request's `format`: `"json"` or a schema.
    ///
    /// # Errors
    /// That it is neither. References to other documents are not followed.
    pub fn of(format: &[u8]) -> Result<Option<Self>, String> {
        let format: Value = serde_json::from_slice(format).map_err(|error| format!("format: {}", describe(&error)))?;
        match format {
            Value::String(format) if format.is_empty() => Ok(None),
            Value::String(_) => Ok(Some(Self { schema: None })),
            // Patterns in linear time: schema and answer both come from outside.
            schema => match jsonschema::options().with_pattern_options(PatternOptions::regex()).build(&schema) {
                Ok(schema) => Ok(Some(Self { schema: Some(schema) })),
                Err(error) => Err(format!("format: no JSON schema that answers can be checked by: {}", error.masked())),
            },
        }
    }

    /// What is wrong with an answer of these lines, without a word of it. Where tools are called instead, nothing is.
    ///
    /// # Errors
    /// The node's own error, or that the lines are none of Ollama's.
    pub fn fault<'a>(&self, lines: impl Iterator<Item = &'a [u8]>) -> Result<Option<String>, NodeError> {
        let (mut content, mut is_cut, mut calls) = (String::new(), false, false);
        for line in lines {
            let said = Said::read(line)?;
            content.push_str(&said.message().content.decode());
            is_cut |= said.is_cut();
            calls |= !said.calls().is_empty();
        }
        if calls && content.trim().is_empty() {
            return Ok(None);
        }
        Ok(if is_cut { Some("cut by its length".into()) } else { self.fault_of(&content) })
    }

    fn fault_of(&self, content: &str) -> Option<String> {
        let Ok(content) = serde_json::from_str(content) else { return Some("not JSON".into()) };
        let error = self.schema.as_ref()?.validate(&content).err()?;
        let place = error.schema_path().as_str();
        Some(format!("does not keep to {}", if place.is_empty() { "the schema" } else { place }))
    }
}
