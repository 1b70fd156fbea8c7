//! Objects as manifests for another cluster: what their users said, without what a server or Drover added.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::api::GROUP;

/// A manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// What to apply.
    pub object: Value,
    /// What a reader of it should know.
    pub comment: Option<String>,
    /// What whoever applies it should know.
    pub notes: Vec<String>,
}

/// A Secret that an object needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretRef {
    /// The namespace of both.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Where specs name Secrets.
const SECRETS: [&str; 2] = ["/spec/pullSecret/name", "/spec/apiKeySecretRef/name"];
/// Annotations that are a tool's notes about the object where it is.
const NOTES_OF_TOOLS: [&str; 1] = ["kubectl.kubernetes.io/last-applied-configuration"];

/// The manifest of an object; nothing for one that is going away, or that a controller makes anew.
pub fn manifest(object: &Value) -> Option<Manifest> {
    let metadata = &object["metadata"];
    let owners = metadata["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
    if metadata["deletionTimestamp"].is_string() || owners.iter().any(|owner| owner["controller"] == true) {
        return None;
    }
    let mut notes = Vec::new();
    let label = format!("{} {}", text(&object["kind"]), path(object));
    if !owners.is_empty() {
        notes.push(format!("{label}: its owners are left out, which are others there"));
    }
    let mut kept = Map::new();
    for (name, value) in object.as_object()?.iter().filter(|(name, _)| *name != "status") {
        let value = if name == "metadata" { plain_metadata(metadata) } else { value.clone() };
        kept.insert(name.clone(), value);
    }
    let mut manifest = Manifest { object: Value::Object(kept), comment: None, notes };
    match text(&object["kind"]) {
        "ModelVersion" => pin(&mut manifest, object, &label),
        "ModelDeployment" => note_rollout(&mut manifest, object, &label),
        "OllamaNode" => note_address(&mut manifest, &label),
        _ => {}
    }
    let fields = manifest.object.as_object_mut().into_iter().flatten();
    fields.filter(|(name, _)| *name != "metadata").for_each(|(_, value)| *value = sorted(value));
    Some(manifest)
}

/// The Secrets that an object needs.
pub fn secrets(object: &Value) -> impl Iterator<Item = SecretRef> {
    let namespace = text(&object["metadata"]["namespace"]);
    let names = SECRETS.iter().filter_map(|pointer| object.pointer(pointer)?.as_str());
    names.map(move |name| SecretRef { namespace: namespace.into(), name: name.into() })
}

/// The manifest of a namespace; nothing for one that is everywhere and says nothing.
pub fn namespace(object: &Value) -> Option<Manifest> {
    let metadata = plain_metadata(&object["metadata"]);
    let is_bare = metadata.as_object()?.len() == 1;
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata });
    (metadata["name"] != "default" || !is_bare).then_some(Manifest { object, comment: None, notes: Vec::new() })
}

/// Where a manifest belongs among others: namespaces come first.
pub fn file(manifest: &Manifest) -> String {
    let metadata = &manifest.object["metadata"];
    match text(&manifest.object["kind"]) {
        "Namespace" => format!("{}/00-namespace.yaml", text(&metadata["name"])),
        kind => format!("{}/{}-{}.yaml", text(&metadata["namespace"]), kind.to_lowercase(), text(&metadata["name"])),
    }
}

/// The manifest as YAML.
///
/// # Errors
/// When it can't be written as such.
pub fn yaml(manifest: &Manifest) -> Result<String, String> {
    let text = in_yaml(&manifest.object, true)?;
    // Not every parser takes every text as a block, beginning with tabs for example.
    let is_read = serde_yaml::from_str::<Value>(&text).is_ok_and(|read| read == manifest.object);
    let text = if is_read { text } else { in_yaml(&manifest.object, false)? };
    let comment = manifest.comment.as_ref().map(|comment| format!("# {comment}\n"));
    Ok(comment.unwrap_or_default() + &text)
}

fn in_yaml(value: &Value, prefer_block_scalars: bool) -> Result<String, String> {
    // kubectl reads YAML 1.1, where more words need quotes than in 1.2: `yes`, `on`, `12:30`.
    let options = serde_saphyr::ser_options! { yaml_12: false, folded_wrap_chars: usize::MAX, prefer_block_scalars: prefer_block_scalars };
    serde_saphyr::to_string_with_options(value, options).map_err(|error| error.to_string())
}

fn plain_metadata(metadata: &Value) -> Value {
    let mut kept = Map::new();
    for name in ["name", "namespace"] {
        if let Some(value) = metadata.get(name) {
            kept.insert(name.into(), value.clone());
        }
    }
    for name in ["labels", "annotations"] {
        let entries = metadata[name].as_object().into_iter().flatten().filter(|(key, _)| is_users(key));
        let entries: BTreeMap<_, _> = entries.map(|(key, value)| (key.clone(), value.clone())).collect();
        if !entries.is_empty() {
            kept.insert(name.into(), json!(entries));
        }
    }
    let finalizers = metadata["finalizers"].as_array().into_iter().flatten();
    let finalizers: Vec<_> = finalizers.filter(|finalizer| is_users(text(finalizer))).cloned().collect();
    if !finalizers.is_empty() {
        kept.insert("finalizers".into(), Value::Array(finalizers));
    }
    Value::Object(kept)
}

/// The same, with the fields in one order: servers have different ones.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().map(|(name, value)| (name, sorted(value))).collect();
            json!(fields)
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// Whether a key is a user's: Drover's own are commands, finalizers and notes of who applied what.
fn is_users(key: &str) -> bool {
    let is_ours = key.split_once('/').is_some_and(|(prefix, _)| prefix == GROUP);
    !is_ours && !NOTES_OF_TOOLS.contains(&key) && key != "kubernetes.io/metadata.name"
}

/// A tag may stand for something else by now, or there: the digest that it was resolved to stays.
fn pin(manifest: &mut Manifest, object: &Value, label: &str) {
    // A provider's model has no digest.
    let Some(source) =
        manifest.object.pointer_mut("/spec/source/ollama").filter(|source| !source["digest"].is_string())
    else {
        return;
    };
    match object["status"]["digest"].as_str() {
        Some(digest) => {
            manifest.comment =
                Some(format!("spec.source.ollama.digest is what {} stood for: a tag can move", text(&source["tag"])));
            source["digest"] = json!(digest);
        }
        None => {
            manifest.notes.push(format!("{label}: it has no digest yet; whatever its tag stands for there is taken"));
        }
    }
}

fn note_rollout(manifest: &mut Manifest, object: &Value, label: &str) {
    let (status, version) = (&object["status"], text(&object["spec"]["version"]));
    if status["stable"]["version"].is_string() && status["stable"]["version"] != version {
        let stable = text(&status["stable"]["version"]);
        manifest.notes.push(format!(
            "{label}: {stable} serves, {version} is asked for; where it is new, {version} serves all requests at once"
        ));
    }
}

fn note_address(manifest: &mut Manifest, label: &str) {
    let url = text(&manifest.object["spec"]["url"]);
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let is_local = ["localhost", "127.", "[::1]"].iter().any(|name| host.starts_with(name));
    if is_local {
        manifest.notes.push(format!("{label}: {url} is an address of this machine only"));
    }
}

fn path(object: &Value) -> String {
    format!("{}/{}", text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
