//! What a request tells of where it is best answered: its session and its caller.

use axum::http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

use super::{ask::Ask, balance::Wish};
use crate::domain::routing::hash;

const SESSION: &str = "x-session-id";

/// Reads it from a request's headers and body: the session is the header `x-session-id`, or `sticky`, the header that the
/// deployment names; without one it is how the prompt begins, as the turns of a conversation all begin alike.
pub fn wish(headers: &HeaderMap, sticky: Option<&str>, ask: &Ask) -> Wish {
    let given = |name: &str| headers.get(name).map(HeaderValue::as_bytes).filter(|value| !value.is_empty());
    let session = sticky.and_then(given).or_else(|| given(SESSION)).or_else(|| ask.session());
    let hashed = |bytes: &[u8]| hash(bytes.iter().copied());
    Wish { session: session.map(hashed), caller: headers.get(AUTHORIZATION).map_or(0, |key| hashed(key.as_bytes())) }
}
