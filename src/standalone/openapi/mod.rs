//! OpenAPI of what is served, as much of it as clients read: the schemas of every kind, and what may be done with it.
//! The documents are made when one is first asked for, and told apart by a digest, as Kubernetes tells them.

mod protobuf;
mod v2;
mod v3;

use std::{collections::BTreeMap, sync::OnceLock};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts},
};
use serde_json::{Map, Value, json};

use super::{
    document::Document,
    kinds::{Kind, Kinds},
    request::query,
    status::Failure,
};

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

#[derive(Debug)]
struct All {
    v2: Document,
    v2_protobuf: Document,
    v3_index: Document,
    v3: BTreeMap<String, Document>,
}

impl All {
    fn new(kinds: &Kinds) -> Self {
        let v3: BTreeMap<_, _> =
            v3::documents(kinds).map(|(place, value)| (place, Document::json(&value, JSON))).collect();
        let paths: Map<_, _> = v3.iter().map(|(place, document)| (place.clone(), address(place, document))).collect();
        let value = v2::document(kinds);
        let v2 = Document::json(&value, JSON);
        let v2_protobuf = v2.in_other_form(protobuf::encode(&value), PROTOBUF);
        Self { v2, v2_protobuf, v3_index: Document::json(&json!({ "paths": paths }), JSON), v3 }
    }
}

fn address(place: &str, document: &Document) -> Value {
    json!({ "serverRelativeURL": relative_url(place, document) })
}

fn relative_url(place: &str, document: &Document) -> String {
    format!("/openapi/v3/{place}?hash={}", document.digest)
}

/// The documents, made once.
#[derive(Debug, Default)]
pub struct Documents(OnceLock<All>);

impl Documents {
    /// The answer, if the path is one of OpenAPI.
    pub fn answer(&self, kinds: &Kinds, parts: &Parts) -> Option<Result<Response<Body>, Failure>> {
        let path = parts.uri.path().strip_prefix("/openapi/")?.trim_matches('/');
        let all = self.0.get_or_init(|| All::new(kinds));
        Some(match path {
            "v2" if wants_protobuf(&parts.headers) => Ok(all.v2_protobuf.answer(&parts.headers)),
            "v2" => Ok(all.v2.answer(&parts.headers)),
            "v3" => Ok(all.v3_index.answer(&parts.headers)),
            path => match path.strip_prefix("v3/").and_then(|place| Some((place, all.v3.get(place)?))) {
                Some((place, document)) => Ok(one_of_v3(place, document, parts)),
                None => Err(Failure::no_such_path()),
            },
        })
    }
}

fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.split(',').next().is_some_and(|first| first.contains("proto-openapi.spec.v2"))
}

/// With the digest in its address a document never changes, so clients may keep it; with another one they are led on.
fn one_of_v3(place: &str, document: &Document, parts: &Parts) -> Response<Body> {
    let query = query(parts);
    let Some(hash) = query.get("hash") else { return document.answer(&parts.headers) };
    let mut response = document.answer(&parts.headers);
    if *hash != document.digest {
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        *response.body_mut() = Body::empty();
        if let Ok(target) = HeaderValue::from_str(&relative_url(place, document)) {
            response.headers_mut().insert(header::LOCATION, target);
        }
        return response;
    }
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    response.headers_mut().insert(header::CACHE_CONTROL, forever);
    response
}

fn gvk(kind: &Kind) -> Value {
    json!({ "group": kind.group, "version": kind.version, "kind": kind.kind })
}

fn info() -> Value {
    json!({ "title": "Kubernetes", "version": format!("v{}", env!("CARGO_PKG_VERSION")) })
}
