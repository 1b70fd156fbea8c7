//! How commands print manifests.

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use super::tools::print_json;
use crate::export::{self, Manifest};

/// How manifests are printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For Git and kubectl
    Yaml,
    /// For programs
    Json,
}

/// An object as its user writes it: without what a server or Drover adds.
///
/// # Errors
/// When it can't be written as JSON.
pub fn plain(object: &impl Serialize, namespace: Option<&str>) -> Result<Value, String> {
    let mut object = serde_json::to_value(object).map_err(|error| error.to_string())?;
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = namespace.into();
    }
    Ok(export::manifest(&object).map_or(object, |manifest| manifest.object))
}

/// Prints manifests.
///
/// # Errors
/// When one can't be written in this form.
pub fn print(mut objects: Vec<Value>, format: Format) -> Result<(), String> {
    match (format, objects.len()) {
        (Format::Json, 1) => print_json(&objects.remove(0)),
        (Format::Json, _) => print_json(&json!({ "apiVersion": "v1", "kind": "List", "items": objects })),
        (Format::Yaml, count) => {
            for object in objects {
                let separator = if count > 1 { "---\n" } else { "" };
                print!("{separator}{}", yaml(object)?);
            }
            Ok(())
        }
    }
}

/// A value as YAML.
///
/// # Errors
/// When it can't be written as such.
pub fn yaml(object: Value) -> Result<String, String> {
    export::yaml(&Manifest { object, comment: None, notes: Vec::new() })
}
