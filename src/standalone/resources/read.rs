//! Reading one object, or several in pages.

use std::{convert::Infallible, sync::Arc};

use axum::{body::Body, http::Response};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::stream;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{Answered, Core, Reply, is_as_stored, shown_entry};
use crate::standalone::{
    kinds::Kind,
    options::{From, ListOptions},
    request::{Form, Request},
    selector::Selector,
    status::{Failure, json_text},
    storage::{Entry, Listing},
    table::Table,
};

/// About how much of a long list is written down at once, in bytes.
const PIECE: usize = 64 * 1024;

/// Where a list goes on.
struct Continue {
    /// The state that it shows; the present one if none.
    revision: Option<u64>,
    after: String,
}

impl Continue {
    fn parse(token: &str) -> Result<Option<Self>, Failure> {
        if token.is_empty() {
            return Ok(None);
        }
        let bad = |why: &str| Failure::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|error| bad(&error.to_string()))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| bad(&error.to_string()))?;
        match value["start"].as_str() {
            Some(after) => Ok(Some(Self { revision: value["rv"].as_u64(), after: after.to_owned() })),
            None => Err(bad("it has no position")),
        }
    }

    fn token(&self) -> String {
        let value = json!({ "v": "meta.k8s.io/v1", "rv": self.revision, "start": self.after });
        BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
    }
}

impl Core {
    /// One object.
    pub fn get(&self, request: &Request) -> Result<Reply, Failure> {
        let entry = self.store.get(&request.kind.stored_as, &request.path());
        let entry = entry.ok_or_else(|| Failure::not_found(&request.kind, request.name()))?;
        Ok(Reply { code: 200, object: Answered::Stored(entry), warnings: Vec::new() })
    }

    /// Several objects.
    pub fn list(&self, request: &Request) -> Result<Response<Body>, Failure> {
        let (entries, metadata) = self.page(request)?;
        Ok(list_response(request, entries, &metadata))
    }

    /// The objects that a request selects, as many as it wants at once, and what their list says of itself.
    ///
    /// # Errors
    /// When the request makes no sense, or wants a state that isn't known.
    pub fn page(&self, request: &Request) -> Result<(Vec<Arc<Entry>>, Value), Failure> {
        let kind = &request.kind;
        let ListOptions { from, limit } = ListOptions::parse(request)?;
        let start = Continue::parse(request.parameter("continue"))?;
        let selector = Selector::parse(request.parameter("labelSelector"), request.parameter("fieldSelector"), kind)?;
        let Listing { mut entries, revision } = self.listed(request, from, start.as_ref())?;
        if !selector.is_empty() {
            entries.retain(|entry| selector.allows(&entry.about.labels, || shown_entry(entry, kind)));
        }
        let mut metadata = json!({ "resourceVersion": revision.to_string() });
        if kind.custom {
            metadata["continue"] = json!("");
        }
        if limit > 0 && entries.len() > limit {
            let after = entries[limit - 1].path.clone();
            metadata["continue"] = json!(Continue { revision: Some(revision), after }.token());
            if selector.is_empty() {
                metadata["remainingItemCount"] = json!(entries.len() - limit);
            }
            entries.truncate(limit);
        }
        Ok((entries, metadata))
    }

    /// The objects that a request looks at, by path.
    pub fn listed_prefix(request: &Request) -> String {
        request.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default()
    }

    fn listed(&self, request: &Request, from: From, start: Option<&Continue>) -> Result<Listing, Failure> {
        let (resource, prefix) = (&request.kind.stored_as, Self::listed_prefix(request));
        let after = start.map_or("", |start| &start.after);
        let current = self.store.revision();
        let exact = match from {
            From::NotOlderThan(wanted) | From::Exactly(wanted) if wanted > current => {
                return Err(Failure::too_new(wanted, current));
            }
            From::Exactly(revision) => Some(revision),
            From::Now | From::NotOlderThan(_) => None,
        };
        let wanted = start.map_or(exact, |start| start.revision);
        let Some(revision) = wanted else { return Ok(self.store.list(resource, &prefix, after)) };
        self.store.list_at(resource, &prefix, after, revision).ok_or_else(|| match start {
            Some(start) => Failure::expired_page(&Continue { revision: None, after: start.after.clone() }.token()),
            None => Failure::expired("The resourceVersion for the provided list is too old."),
        })
    }
}

/// A list in the form that was asked for.
pub fn list_response(request: &Request, entries: Vec<Arc<Entry>>, metadata: &Value) -> Response<Body> {
    let kind = request.kind.clone();
    match request.form {
        Form::Table => table_response(request, entries, metadata),
        Form::Metadata => {
            let head =
                json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata });
            in_pieces(&head, "items", entries, |entry, text| append_metadata(&entry.body.to_vec(), text))
        }
        Form::Object => {
            let name = format!("{}List", kind.kind);
            let head = json!({ "kind": name, "apiVersion": kind.api_version(), "metadata": metadata });
            in_pieces(&head, "items", entries, move |entry, text| append_object(entry, &kind, text))
        }
    }
}

fn table_response(request: &Request, entries: Vec<Arc<Entry>>, metadata: &Value) -> Response<Body> {
    let (kind, include) = (request.kind.clone(), request.parameter("includeObject").to_owned());
    let table = Table::new(kind.clone());
    let (head, fields) = (table.head(metadata), table.fields());
    in_pieces(&head, "rows", entries, move |entry, text| {
        let mut object = Vec::new();
        append_object(entry, &kind, &mut object);
        let cells = Value::Array(table.cells(&fields.read(&object)));
        text.extend_from_slice(format!("{{\"cells\":{cells},\"object\":").as_bytes());
        match include.as_str() {
            "None" => text.extend_from_slice(b"null"),
            "Object" => text.extend_from_slice(&object),
            _ => append_metadata(&object, text),
        }
        text.push(b'}');
    })
}

fn append_object(entry: &Entry, kind: &Kind, text: &mut Vec<u8>) {
    if is_as_stored(kind) {
        entry.body.append_to(text);
    } else {
        text.extend_from_slice(shown_entry(entry, kind).to_string().as_bytes());
    }
}

/// The metadata of an object, cut from its text.
fn append_metadata(object: &[u8], text: &mut Vec<u8>) {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        metadata: &'a RawValue,
    }
    let metadata = serde_json::from_slice::<Head<'_>>(object).map_or("{}", |head| head.metadata.get());
    let head = r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#;
    [head, metadata, "}"].iter().for_each(|part| text.extend_from_slice(part.as_bytes()));
}

/// A list whose entries are written down while it is sent, so that it is never in memory as a whole.
fn in_pieces(
    head: &Value,
    field: &str,
    entries: Vec<Arc<Entry>>,
    append: impl Fn(&Entry, &mut Vec<u8>) + Send + 'static,
) -> Response<Body> {
    let mut text = head.to_string().into_bytes();
    text.pop();
    text.extend_from_slice(format!(",\"{field}\":[").as_bytes());
    let (mut rest, mut entries, mut separator) = (Some(text), entries.into_iter(), &b""[..]);
    let mut pieces = std::iter::from_fn(move || {
        let mut text = rest.take()?;
        for entry in entries.by_ref() {
            text.extend_from_slice(std::mem::replace(&mut separator, b","));
            append(&entry, &mut text);
            if text.len() >= PIECE {
                rest = Some(Vec::with_capacity(2 * PIECE));
                return Some(text);
            }
        }
        text.extend_from_slice(b"]}");
        Some(text)
    })
    .peekable();
    let first = pieces.next().unwrap_or_default();
    let body = match pieces.peek() {
        None => Body::from(first),
        Some(_) => Body::from_stream(stream::iter([first].into_iter().chain(pieces).map(Ok::<_, Infallible>))),
    };
    json_text(200, body)
}
