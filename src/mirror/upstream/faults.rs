//! What a registry's failure means, in words that name the registry and say what to do.

use std::{error::Error, io, time::Duration};

use futures::StreamExt;
use http::StatusCode;
use reqwest::Response;
use tokio::time::timeout;

use crate::{
    domain::{pull::Fault, upstream::Source},
    mirror::refusal::Refusal,
};

/// Of a registry's own words at most so many bytes are passed on.
const WORDS: usize = 300;
const WORDS_WITHIN: Duration = Duration::from_secs(5);

/// A call that got no answer.
pub fn of(source: &Source, error: &reqwest::Error) -> Refusal {
    let host = &source.host;
    let tls = causes(error).find_map(tls);
    if let Some(rustls::Error::InvalidCertificate(why)) = tls {
        let message = format!(
            "the certificate of {host} is not trusted ({why}): check the registry's name, or name the file with its \
             authority's certificate in upstream-ca-file"
        );
        return Refusal::new(Fault::RegistryUnreachable, message);
    }
    if let Some(rustls::Error::InvalidMessage(_)) = tls {
        let message =
            format!("{host} does not speak https: allow plain http for it (insecure, or an http:// upstream)");
        return Refusal::new(Fault::WrongScheme, message);
    }
    let what = if error.is_timeout() { "did not answer in time".to_owned() } else { words(error) };
    Refusal::new(Fault::RegistryUnreachable, format!("{host} can't be reached from the mirror: {what}"))
}

/// It answers nothing.
pub fn silent(source: &Source, limit: Duration) -> Refusal {
    Refusal::new(Fault::RegistryUnreachable, format!("{} did not answer within {limit:?}", source.host))
}

/// It asks to come back later.
pub fn rate_limited(source: &Source, wait: Option<Duration>) -> Refusal {
    let when = match wait {
        Some(wait) => format!("it asks to come back in {} s", wait.as_secs_f64().ceil()),
        None => "try again later".into(),
    };
    let message = format!("{} limits requests (429 too many requests): {when}", source.host);
    Refusal { fault: Fault::RateLimited, message, retry_after: wait }
}

/// It wants a login, or another one.
pub fn unauthorized(source: &Source, with_login: bool) -> Refusal {
    let message = match with_login {
        true => format!("{} denied access to {source} with the login given: check user name and password", source.host),
        false => format!("{} denied access to {source}: it wants a login, and the mirror has none for it", source.host),
    };
    Refusal::new(Fault::Unauthorized, message)
}

/// It has nothing of this name.
pub fn not_found(source: &Source) -> Refusal {
    Refusal::new(Fault::NoSuchModel, format!("{source} was not found"))
}

/// The login for a pull was in memory only.
pub fn forgotten(source: &Source) -> Refusal {
    let message = format!(
        "the mirror was restarted and no longer has the login for {}: the pull has to be granted again",
        source.host
    );
    Refusal::new(Fault::RegistryUnreachable, message)
}

/// Any other status.
pub fn status(source: &Source, status: StatusCode, words: String) -> Refusal {
    let host = &source.host;
    if words.contains("HTTP request to an HTTPS server") {
        return Refusal::new(Fault::WrongScheme, format!("{host} speaks https: don't allow plain http for it"));
    }
    let words = if words.is_empty() { String::new() } else { format!(" ({words})") };
    let fault = if status.is_server_error() { Fault::RegistryUnreachable } else { Fault::Other };
    Refusal::new(fault, format!("{host} answered HTTP {}{words}: it is the registry that fails", status.as_u16()))
}

/// The beginning of a body, on one line.
pub async fn words_of_body(answer: Response) -> String {
    let mut body = answer.bytes_stream();
    let mut bytes = Vec::new();
    while bytes.len() < WORDS {
        match timeout(WORDS_WITHIN, body.next()).await {
            Ok(Some(Ok(chunk))) => bytes.extend_from_slice(&chunk),
            _ => break,
        }
    }
    bytes.truncate(WORDS);
    String::from_utf8_lossy(&bytes).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The innermost cause: it says most, and never has the URL in it.
fn words(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| "unknown".into(), ToString::to_string)
}

/// What the TLS library says; an I/O error hides what it wraps from `source`, so it is opened here.
fn tls<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        return Some(error);
    }
    tls(cause.downcast_ref::<io::Error>()?.get_ref()?)
}

fn causes<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause: &&'a (dyn Error + 'static)| (*cause).source())
}
