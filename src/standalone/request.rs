//! What a request asks for: kind, object, verb, form of the answer.

use std::{collections::HashMap, sync::Arc};

use axum::{
    body::Bytes,
    http::{HeaderMap, Method, header, request::Parts},
};
use reqwest::Url;
use serde_json::Value;

use super::{
    kinds::{Kind, Kinds},
    protobuf,
    status::{Cause, Failure},
};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Read one.
    Get,
    /// Read several.
    List,
    /// Follow changes.
    Watch,
    /// Make one.
    Create,
    /// Replace one.
    Update,
    /// Change one.
    Patch,
    /// Remove one.
    Delete,
    /// Remove several.
    DeleteCollection,
}

/// How objects are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Object,
    /// Rows with columns, for kubectl.
    Table,
    /// Their metadata only.
    Metadata,
}

/// A request for objects.
#[derive(Clone, Debug)]
pub struct Request {
    /// The kind.
    pub kind: Arc<Kind>,
    /// What is to be done.
    pub verb: Verb,
    /// The namespace, if the path names one.
    pub namespace: Option<String>,
    /// The object, if the path names one.
    pub name: Option<String>,
    /// The subresource, or empty.
    pub subresource: String,
    /// The query.
    pub query: HashMap<String, String>,
    /// The form of the answer.
    pub form: Form,
    /// The body's media type without parameters.
    pub content_type: String,
    /// Who asks: the beginning of the user agent.
    pub agent: String,
    /// The body.
    pub body: Bytes,
}

/// The query of a path, decoded.
pub fn query(parts: &Parts) -> HashMap<String, String> {
    // `Url` decodes it; the host means nothing.
    let url = Url::parse(&format!("http://localhost/?{}", parts.uri.query().unwrap_or_default()));
    url.map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default()
}

impl Request {
    /// Reads a request for objects.
    ///
    /// # Errors
    /// 404 for a path that isn't one of objects, 405 for a method that it does not have.
    pub fn parse(kinds: &Kinds, parts: &Parts, body: Bytes) -> Result<Self, Failure> {
        let segments: Vec<&str> = parts.uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let (group, version, rest) = match &segments[..] {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Err(Failure::no_such_path()),
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..]
                if !(rest.is_empty() || group.is_empty() && matches!(rest, ["status" | "finalize"])) =>
            {
                (Some((*namespace).to_owned()), rest)
            }
            _ => (None, rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, None, ""),
            [plural, name] => (*plural, Some((*name).to_owned()), ""),
            [plural, name, subresource] => (*plural, Some((*name).to_owned()), *subresource),
            _ => return Err(Failure::no_such_path()),
        };
        let kind = kinds.find(group, version, plural).ok_or_else(Failure::no_such_path)?.clone();
        if kind.namespaced != namespace.is_some() && (name.is_some() || namespace.is_some()) {
            return Err(Failure::no_such_path());
        }
        let query = query(parts);
        let verb = verb(&parts.method, &kind, namespace.as_deref(), name.as_deref(), subresource, &query)?;
        Ok(Self {
            form: form(&parts.headers)?,
            content_type: content_type(&parts.headers),
            agent: agent(&parts.headers),
            subresource: subresource.to_owned(),
            kind,
            verb,
            namespace,
            name,
            query,
            body,
        })
    }

    /// A parameter, or empty.
    pub fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map(String::as_str).unwrap_or_default()
    }

    /// A parameter that is true or false.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.parameter(name), "true" | "1" | "t" | "True")
    }

    /// A whole number, if it is given.
    ///
    /// # Errors
    /// 400 when it is none.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Failure> {
        match self.parameter(name) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| Failure::bad_request(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))),
        }
    }

    /// `resourceVersion`, if it is given.
    ///
    /// # Errors
    /// Why it is none.
    pub fn revision(&self) -> Result<Option<u64>, String> {
        match self.parameter("resourceVersion") {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                format!(
                    "resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax"
                )
            }),
        }
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// The object's path in storage.
    pub fn path(&self) -> String {
        self.kind.path(self.namespace.as_deref(), self.name())
    }

    /// Whether nothing shall be kept.
    ///
    /// # Errors
    /// 422 for any other value than `All`.
    pub fn dry_run(&self) -> Result<bool, Failure> {
        match self.parameter("dryRun") {
            "" => Ok(false),
            "All" => Ok(true),
            other => {
                let message = format!("Unsupported value: [\"{other}\"]: supported values: \"All\"");
                let cause = Cause { reason: "FieldValueNotSupported", field: "dryRun".into(), message };
                let options = match self.verb {
                    Verb::Create => "CreateOptions",
                    Verb::Update => "UpdateOptions",
                    Verb::Patch => "PatchOptions",
                    _ => "DeleteOptions",
                };
                Err(Failure::bad_options(options, &[cause]))
            }
        }
    }

    /// Who is named as the writer of fields.
    pub fn manager(&self) -> String {
        match self.parameter("fieldManager") {
            "" => self.agent.clone(),
            manager => manager.to_owned(),
        }
    }

    /// The body as a value; JSON or YAML.
    ///
    /// # Errors
    /// 400 when it is neither, 415 when it says so.
    pub fn value(&self) -> Result<Value, Failure> {
        match self.content_type.as_str() {
            "application/vnd.kubernetes.protobuf" if self.kind.custom && self.verb != Verb::Delete => {
                Err(Failure::unsupported_media(&["application/json", "application/yaml"]))
            }
            "application/vnd.kubernetes.protobuf" => protobuf::decode(&self.body)
                .ok_or_else(|| Failure::bad_request("the object provided can't be read as protobuf")),
            "application/yaml" | "application/apply-patch+yaml" => self.yaml(),
            _ => serde_json::from_slice(&self.body).map_err(|error| {
                let kind = &self.kind.kind;
                Failure::bad_request(format!(
                    "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {error}"
                ))
            }),
        }
    }

    fn yaml(&self) -> Result<Value, Failure> {
        // JSON is YAML, and much faster to read as JSON.
        if let Ok(value) = serde_json::from_slice(&self.body) {
            return Ok(value);
        }
        serde_yaml::from_slice(&self.body)
            .map_err(|error| Failure::bad_request(format!("error decoding YAML: {error}")))
    }
}

fn verb(
    method: &Method,
    kind: &Kind,
    namespace: Option<&str>,
    name: Option<&str>,
    subresource: &str,
    query: &HashMap<String, String>,
) -> Result<Verb, Failure> {
    let watches = matches!(query.get("watch").map(String::as_str), Some("true" | "1" | "t"));
    let (verb, word) = match (method.as_str(), name.is_some()) {
        ("GET", true) => (Verb::Get, "get"),
        ("GET", false) if watches => (Verb::Watch, "watch"),
        ("GET", false) => (Verb::List, "list"),
        ("POST", false) => (Verb::Create, "create"),
        ("PUT", true) => (Verb::Update, "update"),
        ("PATCH", true) => (Verb::Patch, "patch"),
        ("DELETE", true) => (Verb::Delete, "delete"),
        ("DELETE", false) => (Verb::DeleteCollection, "deletecollection"),
        ("PUT" | "PATCH", false) if kind.custom => return Err(Failure::bad_request("name must be provided")),
        _ => return Err(Failure::not_allowed()),
    };
    let verbs = match subresource {
        "" => Some(kind.verbs()),
        _ => kind.subresources().into_iter().find(|(name, _)| *name == subresource).map(|(_, verbs)| verbs),
    };
    let verbs = verbs.ok_or_else(Failure::no_such_path)?;
    let writes_everywhere = namespace.is_none() && kind.namespaced && !matches!(verb, Verb::List | Verb::Watch);
    if !verbs.contains(&word) || writes_everywhere {
        return Err(Failure::not_allowed());
    }
    Ok(verb)
}

fn form(headers: &HeaderMap) -> Result<Form, Failure> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    let forms = accept.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let (media, mut r#as) = (parts.next().unwrap_or_default(), "");
        let mut version = "v1";
        for part in parts {
            match part.split_once('=') {
                Some(("as", value)) => r#as = value,
                Some(("v", value)) => version = value,
                _ => {}
            }
        }
        let is_json = matches!(media, "application/json" | "*/*" | "application/*" | "");
        match r#as {
            _ if !is_json || !matches!(version, "v1" | "v1beta1") => None,
            "" => Some(Form::Object),
            "Table" => Some(Form::Table),
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(Form::Metadata),
            _ => None,
        }
    });
    forms.into_iter().next().ok_or_else(Failure::not_acceptable)
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn agent(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = agent.split('/').next().unwrap_or_default();
    if name.is_empty() { "unknown".into() } else { name.to_owned() }
}
