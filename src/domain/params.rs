//! Which value of a parameter takes effect, and who said so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Who set a parameter; the order is the precedence, the first one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The caller.
    Request,
    /// The model version.
    Version,
    /// The node.
    Node,
}

/// Each parameter's effective value with its source: the layer of the highest precedence that names it.
pub fn merge<V: Clone>(layers: &[(Source, &BTreeMap<String, V>)]) -> BTreeMap<String, (V, Source)> {
    let mut ordered: Vec<_> = layers.to_vec();
    ordered.sort_by_key(|(source, _)| *source);
    let mut merged = BTreeMap::new();
    for (source, layer) in ordered {
        for (name, value) in layer {
            merged.entry(name.clone()).or_insert_with(|| (value.clone(), source));
        }
    }
    merged
}

/// The context window to call a node with: what the request asks for, rounded up to what is configured, because
/// Ollama unloads and loads a model again whenever the window changes. `configured` is the version's or, when it
/// names none, the node's. `None` leaves it to the server.
///
/// # Errors
/// The node's limit, when that is less.
pub fn context(requested: Option<u64>, configured: Option<u64>, limit: Option<u64>) -> Result<Option<u64>, u64> {
    let window = requested.max(configured);
    match limit {
        Some(limit) if window > Some(limit) => Err(limit),
        _ => Ok(window),
    }
}
