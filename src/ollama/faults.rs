//! What a failed HTTP call means.

use std::{error::Error, io, time::Duration};

use crate::{domain::node::ProbeFault, ports::NodeError};

/// Why a node could not be looked at.
pub fn of_probe(error: &reqwest::Error) -> ProbeFault {
    if error.is_timeout() {
        return ProbeFault::TimedOut;
    }
    for cause in causes(error) {
        if cause.is::<rustls::Error>() {
            return ProbeFault::Tls;
        }
        let Some(error) = cause.downcast_ref::<io::Error>() else { continue };
        match error.kind() {
            io::ErrorKind::ConnectionRefused => return ProbeFault::Refused,
            io::ErrorKind::TimedOut => return ProbeFault::TimedOut,
            _ if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => return ProbeFault::Tls,
            _ => {}
        }
    }
    if error.is_connect() { ProbeFault::Unreachable } else { ProbeFault::NotOllama }
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
pub fn words(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| "unknown".into(), ToString::to_string)
}

fn causes<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause: &&'a (dyn Error + 'static)| (*cause).source())
}
