//! Requests for objects: what each verb does, and the forms of the answer.

mod builtin;
mod delete;
mod events;
mod names;
mod object;
mod read;
mod write;

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Response, header, request::Parts},
};
use serde_json::{Value, json};

use super::{
    discovery,
    kinds::{Kind, Kinds},
    openapi::Documents,
    request::{Form, Request, Verb},
    status::{Failure, json_response, json_text},
    storage::{Entry, Store},
    table, watch,
};

pub use builtin::prepare;
pub use delete::Removal;
pub use write::accepted_patches;

/// The objects and their kinds.
pub struct Core {
    /// The objects.
    pub store: Store,
    /// The kinds.
    pub kinds: Kinds,
    /// Their documentation.
    pub documents: Documents,
}

/// An object that is answered.
pub enum Answered {
    /// One as it is stored.
    Stored(Arc<Entry>),
    /// Any other.
    Other(Value),
}

/// One object as an answer.
pub struct Reply {
    /// The HTTP status.
    pub code: u16,
    /// The object.
    pub object: Answered,
    /// What the caller should know.
    pub warnings: Vec<String>,
}

/// Answers any request.
///
/// # Errors
/// Why it was not carried out.
pub async fn answer(core: &Core, parts: &Parts, body: Bytes) -> Result<Response<Body>, Failure> {
    if let Some(response) = discovery::answer(&core.kinds, parts).or_else(|| core.documents.answer(&core.kinds, parts))
    {
        return response;
    }
    let request = Request::parse(&core.kinds, parts, body)?;
    match request.verb {
        Verb::List => core.list(&request),
        Verb::Watch => watch::start(&core.store, &request),
        Verb::Get => core.get(&request).map(|reply| shown(&request, reply)),
        Verb::Create => core.create(&request).await.map(|reply| shown(&request, reply)),
        Verb::Update => core.update(&request).await.map(|reply| shown(&request, reply)),
        Verb::Patch => core.patch(&request).await.map(|reply| shown(&request, reply)),
        Verb::Delete => core.delete(&request).await.map(|reply| shown(&request, reply)),
        Verb::DeleteCollection => core.delete_collection(&request).await,
    }
}

fn shown(request: &Request, reply: Reply) -> Response<Body> {
    let shown = |object| in_form(object, &request.kind, request.form, request.parameter("includeObject"));
    let mut response = match reply.object {
        Answered::Stored(entry) if request.form == Form::Object && is_as_stored(&request.kind) => {
            json_text(reply.code, Body::from(entry.body.to_vec()))
        }
        Answered::Stored(entry) => json_response(reply.code, &shown(entry.value())),
        Answered::Other(object) => json_response(reply.code, &shown(object)),
    };
    for warning in reply.warnings {
        let text = format!("299 - {}", json!(warning));
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// An object in the form that was asked for; a `Status` stays one.
pub fn in_form(object: Value, kind: &Kind, form: Form, include: &str) -> Value {
    if object["kind"] == "Status" && kind.kind != "Status" {
        return object;
    }
    let object = events::shown(object, kind);
    match form {
        Form::Object => object,
        Form::Table => table::of_one(kind, &object, include),
        Form::Metadata => metadata_only(&object),
    }
}

/// The metadata of an object.
pub fn metadata_only(object: &Value) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] })
}

/// Whether objects are shown in the form that they are stored in.
pub fn is_as_stored(kind: &Kind) -> bool {
    kind.group != events::GROUP
}

/// The object of an entry as its kind shows it.
pub fn shown_entry(entry: &Entry, kind: &Kind) -> Value {
    events::shown(entry.value(), kind)
}
