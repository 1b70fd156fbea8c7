//! Answers that are the same for everybody and change seldom: a client that has one is told so.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// One such answer.
#[derive(Debug)]
pub struct Document {
    body: Bytes,
    /// A digest of what it says, the same in every form.
    pub digest: String,
    media: &'static str,
}

impl Document {
    /// A value as JSON, under a media type.
    pub fn json(value: &Value, media: &'static str) -> Self {
        let body = Bytes::from(value.to_string());
        let digest = Sha256::digest(&body).iter().map(|byte| format!("{byte:02X}")).collect();
        Self { body, digest, media }
    }

    /// The same, said in another form.
    pub fn in_other_form(&self, body: Vec<u8>, media: &'static str) -> Self {
        Self { body: body.into(), digest: self.digest.clone(), media }
    }

    /// The document, or that the client has it.
    pub fn answer(&self, headers: &HeaderMap) -> Response<Body> {
        let tag = format!("\"{}\"", self.digest);
        let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
        let is_known = known.split(',').any(|known| matches!(known.trim(), "*") || known.trim() == tag);
        let mut response = Response::new(if is_known { Body::empty() } else { Body::from(self.body.clone()) });
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media));
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}
