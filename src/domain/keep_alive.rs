//! How long a node keeps a model in memory after a request, as Ollama reads it.
//!
//! The runner belongs to everybody who uses the model and the last caller's `keep_alive` wins, so a request may
//! lengthen what the node's owner set but not shorten it.

use std::time::Duration;

/// A `keep_alive`; a longer one compares greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeepAlive {
    /// For this long after the last request.
    For(Duration),
    /// Until the node needs the memory.
    Forever,
}

impl KeepAlive {
    /// From a number of seconds; a negative one means for ever. `None` for what no clock can hold.
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        if seconds < 0.0 {
            return Some(Self::Forever);
        }
        Duration::try_from_secs_f64(seconds).ok().map(Self::For)
    }

    /// From a duration in Go's notation (`10m`, `1.5h`, `-1m`); a negative one means for ever.
    pub fn from_text(text: &str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let seconds = if rest == "0" { 0.0 } else { go_seconds(rest)? };
        Self::from_seconds(if negative && seconds > 0.0 { -1.0 } else { seconds })
    }
}

/// Units of Go's `time.ParseDuration`, in seconds; the micro sign and the Greek letter are both in use.
const UNITS: [(&str, f64); 8] =
    [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("μs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

fn go_seconds(mut rest: &str) -> Option<f64> {
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let after = &rest[end..];
        let unit = &after[..after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len())];
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        seconds += number * factor;
        rest = &after[unit.len()..];
    }
    Some(seconds)
}

/// Whose `keep_alive` a node is called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// The request's.
    Request,
    /// The node's.
    Node,
    /// Nobody's: Ollama's own default.
    Nobody,
}

/// The longer of the two. A request's 0, which would unload the model under everybody else, is ignored.
pub fn keeper(request: Option<KeepAlive>, node: Option<KeepAlive>) -> Keeper {
    match (request.filter(|keep| *keep > KeepAlive::For(Duration::ZERO)), node) {
        (Some(request), Some(node)) if request <= node => Keeper::Node,
        (Some(_), _) => Keeper::Request,
        (None, Some(_)) => Keeper::Node,
        (None, None) => Keeper::Nobody,
    }
}
