//! What a request tells of where it is best answered: its session and its caller.

use axum::http::{HeaderMap, HeaderValue};

use super::{ask::Ask, balance::Wish, callers::Caller};

/// The header that names a session.
pub const SESSION: &str = "x-session-id";

/// Reads it from a request's headers and body: the session is the header that the deployment names (`sticky`), or
/// `x-session-id`, or what the body says of its user; without any it is how the prompt begins, as the turns of a
/// conversation all begin alike. Who has no key is known by the session.
pub fn wish<'a>(headers: &'a HeaderMap, sticky: Option<&'a str>, ask: &'a Ask, caller: &'a Caller) -> Wish<'a> {
    let given = |name: &'a str| {
        let value = headers.get(name).map(HeaderValue::as_bytes).filter(|value| !value.is_empty());
        value.map(|value| (name, value))
    };
    let session = sticky.and_then(given).or_else(|| given(SESSION)).or_else(|| ask.session());
    let (known_by, session) = (session.map(|(known_by, _)| known_by), session.map(|(_, session)| session));
    Wish { known_by, session, caller: caller.name().map(|name| name.as_bytes()).or(session) }
}
