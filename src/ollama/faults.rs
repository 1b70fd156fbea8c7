//! What a failed HTTP call means.

use std::{error::Error, io, time::Duration};

use crate::{domain::node::ProbeFault, ports::NodeError};

/// Why a node could not be looked at.
pub fn of_probe(error: &reqwest::Error) -> ProbeFault {
    if error.is_timeout() {
        return ProbeFault::TimedOut;
    }
    if let Some(fault) = causes(error).find_map(known) {
        return fault;
    }
    if error.is_connect() { ProbeFault::Unreachable } else { ProbeFault::NotOllama }
}

/// What one cause says by itself. An I/O error hides what it wraps from `source`, so it is opened here.
fn known(cause: &(dyn Error + 'static)) -> Option<ProbeFault> {
    if cause.is::<rustls::Error>() {
        return Some(ProbeFault::Tls);
    }
    let error = cause.downcast_ref::<io::Error>()?;
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(ProbeFault::Refused),
        io::ErrorKind::TimedOut => Some(ProbeFault::TimedOut),
        _ => known(error.get_ref()?),
    }
}

/// Why a call failed.
pub fn of_call(error: &reqwest::Error, limit: Duration) -> NodeError {
    if error.is_connect() {
        NodeError::Connect(words(error))
    } else if error.is_timeout() {
        NodeError::TimedOut(limit)
    } else {
        NodeError::Broken(words(error))
    }
}

/// The innermost cause: it says most, and never has the URL or the body in it.
fn words(error: &reqwest::Error) -> String {
    error.source().map_or_else(|| "unknown".into(), innermost)
}

/// The last of an error's causes, or itself.
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |cause| (*cause).source());
    chain.last().map_or_else(String::new, ToString::to_string)
}

fn causes<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause: &&'a (dyn Error + 'static)| (*cause).source())
}
