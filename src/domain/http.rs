//! What a few headers of HTTP say.

use std::{ops::Range, time::Duration};

use jiff::{Timestamp, fmt::rfc2822};

/// No registry makes anybody wait longer.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// How a registry wants to be logged in to: one challenge of `WWW-Authenticate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token that another address gives.
    Bearer {
        /// That address.
        realm: String,
        /// For whom the token is.
        service: String,
        /// What it allows.
        scope: String,
    },
}

/// The challenges in a `WWW-Authenticate` header that are known here.
pub fn challenges(header: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for item in items(header) {
        let (word, value) = item.split_once('=').map_or((item.as_str(), None), |(key, value)| (key, Some(value)));
        let (scheme, key) = match word.trim().rsplit_once(char::is_whitespace) {
            Some((scheme, key)) => (Some(scheme.trim()), key),
            None if value.is_none() => (Some(word.trim()), ""),
            None => (None, word.trim()),
        };
        if let Some(scheme) = scheme {
            found.push((scheme.to_ascii_lowercase(), Vec::new()));
        }
        if let (Some((_, fields)), Some(value)) = (found.last_mut(), value) {
            fields.push((key.to_ascii_lowercase(), unquoted(value.trim())));
        }
    }
    let known = |(scheme, fields): (String, Vec<(String, String)>)| {
        let field = |name: &str| {
            let found = fields.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        match scheme.as_str() {
            "basic" => Some(Challenge::Basic),
            "bearer" => {
                Some(Challenge::Bearer { realm: field("realm"), service: field("service"), scope: field("scope") })
            }
            _ => None,
        }
    };
    found.into_iter().filter_map(known).collect()
}

/// What stands between the commas that are not in quotes.
fn items(header: &str) -> Vec<String> {
    let (mut items, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for c in header.chars() {
        match c {
            ',' if !quoted => items.push(String::new()),
            _ => {
                quoted ^= c == '"' && !escaped;
                escaped = c == '\\' && quoted && !escaped;
                items.iter_mut().last().into_iter().for_each(|item| item.push(c));
            }
        }
    }
    items.into_iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"') else { return value.into() };
    let mut escaped = false;
    let mut text = String::new();
    for c in inner.chars() {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => break,
            c => {
                escaped = false;
                text.push(c);
            }
        }
    }
    text
}

/// How long `Retry-After` asks to wait, at most an hour: seconds or a date.
pub fn retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    let wait = match header.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let then = rfc2822::parse(header).ok()?.timestamp();
            Duration::try_from(then.duration_since(now)).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

/// Which bytes of `size` a `Range` header asks for: `None` is all of them, as for a header that can't be read or that
/// names several ranges.
///
/// # Errors
/// When there are no such bytes.
pub fn requested(header: Option<&str>, size: u64) -> Result<Option<Range<u64>>, NoSuchBytes> {
    let Some(spec) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else { return Ok(None) };
    let Some((first, last)) = spec.split_once('-') else { return Ok(None) };
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.trim().is_empty() => first..size,
        (None, Some(count)) if first.trim().is_empty() => size.saturating_sub(count)..size,
        _ => return Ok(None),
    };
    if range.start < range.end { Ok(Some(range)) } else { Err(NoSuchBytes) }
}

/// The bytes that were asked for lie behind the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchBytes;

/// Which bytes an answer holds, by its `Content-Range`, and of how many.
pub fn content_range(header: &str) -> Option<(Range<u64>, u64)> {
    let (range, size) = header.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (range, size) = (number(first)?..number(last)?.checked_add(1)?, number(size)?);
    (range.start < range.end && range.end <= size).then_some((range, size))
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
