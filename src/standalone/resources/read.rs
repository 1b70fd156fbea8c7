//! Reading one object, or several in pages.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderValue, Response, header},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Core, Reply, metadata_only, shown_entry};
use crate::standalone::{
    options::{From, ListOptions},
    request::{Form, Request},
    selector::Selector,
    status::{Failure, json_response},
    storage::{Entry, Listing},
    table,
};

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
        Ok(Reply { code: 200, object: entry.value(), warnings: Vec::new() })
    }

    /// Several objects.
    pub fn list(&self, request: &Request) -> Result<Response<Body>, Failure> {
        let (entries, metadata) = self.page(request)?;
        Ok(self.list_response(request, &entries, &metadata))
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
            entries.retain(|entry| selector.allows(&entry.labels, || shown_entry(entry, kind)));
        }
        if let Some(start) = &start {
            entries.retain(|entry| entry.path > start.after);
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
        let current = self.store.revision();
        let exact = match from {
            From::NotOlderThan(wanted) | From::Exactly(wanted) if wanted > current => {
                return Err(Failure::too_new(wanted, current));
            }
            From::Exactly(revision) => Some(revision),
            From::Now | From::NotOlderThan(_) => None,
        };
        let wanted = start.map_or(exact, |start| start.revision);
        let Some(revision) = wanted else { return Ok(self.store.list(resource, &prefix)) };
        self.store.list_at(resource, &prefix, revision).ok_or_else(|| match start {
            Some(start) => Failure::expired_page(&Continue { revision: None, after: start.after.clone() }.token()),
            None => Failure::expired("The resourceVersion for the provided list is too old."),
        })
    }

    /// A list in the form that was asked for.
    pub fn list_response(&self, request: &Request, entries: &[Arc<Entry>], metadata: &Value) -> Response<Body> {
        let kind = &request.kind;
        let objects = || entries.iter().map(|entry| shown_entry(entry, kind));
        match request.form {
            Form::Table => {
                let objects: Vec<_> = objects().collect();
                json_response(200, &table::table(kind, &objects, metadata.clone(), request.parameter("includeObject")))
            }
            Form::Metadata => {
                let items: Vec<_> = objects().map(|object| metadata_only(&object)).collect();
                let head = json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items });
                json_response(200, &head)
            }
            Form::Object => raw_list(request, entries, metadata),
        }
    }
}

/// The list, put together from what is stored without reading it.
fn raw_list(request: &Request, entries: &[Arc<Entry>], metadata: &Value) -> Response<Body> {
    let kind = &request.kind;
    let head = json!({ "kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(), "metadata": metadata });
    let mut text = head.to_string().into_bytes();
    text.pop();
    text.extend_from_slice(b",\"items\":[");
    let converted = kind.group == "events.k8s.io";
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        if converted {
            text.extend_from_slice(shown_entry(entry, kind).to_string().as_bytes());
        } else {
            text.extend_from_slice(&entry.body);
        }
    }
    text.extend_from_slice(b"]}");
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
