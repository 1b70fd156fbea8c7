//! What a provider's failure means.

use std::{error::Error, io, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;
use reqwest::{
    Response,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use serde_json::Value;
use tokio::time::timeout;

use super::openai;
use crate::{
    domain::{http::retry_after, provider::ProviderFault},
    ports::{NodeError, ProviderKey},
};

/// The longest error that is read, in bytes, and how much of it is told, in characters.
const LONGEST: usize = 64 << 10;
const LONGEST_QUOTE: usize = 300;
/// Seconds after which a provider that doesn't say so is asked again.
const SOON: u32 = 5;

/// An answer with an error status.
pub enum Refused {
    /// To be passed on.
    Answer {
        /// HTTP status.
        status: u16,
        /// The provider's words.
        message: String,
    },
    /// The provider has too much to do.
    Later(NodeError),
}

/// Reads an answer with an error status.
pub async fn refused(answer: Response, key: Option<&ProviderKey>, within: Duration) -> Refused {
    let status = answer.status().as_u16();
    if matches!(status, 401 | 403) {
        // The provider's own words may quote the key.
        return Refused::Answer { status, message: ProviderFault::KeyRefused(status).to_string() };
    }
    let wait = answer.headers().get(RETRY_AFTER).and_then(|wait| retry_after(wait.to_str().ok()?, Timestamp::now()));
    let is_json =
        answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let body = timeout(within, read(answer)).await.unwrap_or_default();
    let message = words(&body, is_json);
    let message = key.map_or(message.clone(), |key| key.hide(&message));
    match status {
        429 | 503 | 529 => {
            let retry_after = wait.map_or(SOON, |wait| u32::try_from(wait.as_secs().max(1)).unwrap_or(SOON));
            Refused::Later(NodeError::Throttled { status, message, retry_after })
        }
        _ => Refused::Answer { status, message },
    }
}

async fn read(answer: Response) -> Vec<u8> {
    let mut pieces = answer.bytes_stream();
    let mut body = Vec::new();
    while let Some(Ok(piece)) = pieces.next().await {
        let piece: Bytes = piece;
        body.extend_from_slice(&piece[..piece.len().min(LONGEST - body.len())]);
        if body.len() == LONGEST {
            break;
        }
    }
    body
}

/// What an error says; of a page for people, only that it is one.
fn words(body: &[u8], is_json: bool) -> String {
    let message = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Array(errors)) => errors.first().and_then(|error| error.get("error")).map(openai::words),
        Ok(answer) => answer.get("error").map(openai::words).or_else(|| answer["message"].as_str().map(str::to_owned)),
        Err(_) => None,
    };
    let otherwise = || match is_json {
        true => "the provider gives no reason",
        false => "the provider answers with a page that is no part of its API: check spec.url",
    };
    message.unwrap_or_else(|| otherwise().into()).chars().take(LONGEST_QUOTE).collect()
}

/// Why a call failed.
pub fn of_call(error: &reqwest::Error, limit: Duration) -> NodeError {
    if error.is_connect() {
        NodeError::Connect(innermost(error))
    } else if error.is_timeout() {
        NodeError::TimedOut(limit)
    } else {
        NodeError::Broken(innermost(error))
    }
}

/// Why a provider could not be checked.
pub fn of_check(error: &reqwest::Error) -> ProviderFault {
    if error.is_timeout() {
        ProviderFault::TimedOut
    } else if causes(error).any(is_about_certificate) {
        ProviderFault::Tls
    } else if error.is_connect() {
        ProviderFault::Unreachable(innermost(error))
    } else {
        ProviderFault::NotAnApi("what answers there does not speak HTTP properly".into())
    }
}

/// An I/O error hides what it wraps from `source`, so it is opened here.
fn is_about_certificate(cause: &(dyn Error + 'static)) -> bool {
    let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    cause.is::<rustls::Error>() || inner.is_some_and(|inner| is_about_certificate(inner))
}

/// The innermost cause: it says most, and never has the URL or the body in it.
fn innermost(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| "unknown".into(), ToString::to_string)
}

fn causes<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause: &&'a (dyn Error + 'static)| (*cause).source())
}
