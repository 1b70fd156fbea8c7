//! The attempts of one request that failed, and what the caller is told when all did.

use std::time::Duration;

use axum::http::StatusCode;

use super::{balance::is_about_connection, failure::Failure};
use crate::{
    ports::NodeError,
    routing_table::{Node, Target},
};

/// Seconds after which a caller may try again when no node has room.
const RETRY_AFTER: u32 = 5;

/// The failed attempts in their order.
#[derive(Default)]
pub struct Faults {
    faults: Vec<Fault>,
    left: Vec<String>,
    was_full: bool,
    was_crowded: bool,
}

struct Fault {
    node: String,
    name: String,
    model: String,
    error: NodeError,
}

impl Faults {
    /// Adds an attempt that failed through the node's fault.
    pub fn add(&mut self, node: &Node, target: &Target, error: NodeError) {
        let (id, name, model) = (node.id.clone(), node.name.clone(), target.model.clone());
        self.faults.push(Fault { node: id, name, model, error });
    }

    /// Adds an answer that was not good enough for a chain, and why.
    pub fn add_left(&mut self, node: &Node, why: String) {
        self.left.push(format!("{}: {why}", node.name));
    }

    /// Notes that nodes were left unasked because they had no room; `crowded`: and because too many waited for it.
    pub fn add_full(&mut self, crowded: bool) {
        self.was_full = true;
        self.was_crowded |= crowded;
    }

    /// Whether a node is out of the question: it failed with this target, or it can't be reached at all.
    pub fn rule_out(&self, node: &Node, target: &Target) -> bool {
        let same = self.faults.iter().filter(|fault| fault.node == node.id);
        same.into_iter().any(|fault| fault.model == target.model || is_about_connection(&fault.error))
    }

    /// Why no node could answer a request with this `reason` behind it: every attempt and what became of it.
    /// `hindrance` says what kept nodes from being asked at all.
    pub fn failure(&self, reason: &str, hindrance: Option<String>, waited: Duration) -> Failure {
        let left = self.left.iter().cloned();
        let failed = self.faults.iter().map(|fault| format!("{}: {}", fault.name, fault.error));
        let mut told: Vec<_> = left.chain(failed).collect();
        if self.was_crowded {
            told.push("every other node is full, and too many requests wait already".into());
        } else if self.was_full {
            told.push(format!("every other node was full for {waited:?}"));
        }
        told.extend(hindrance.filter(|_| told.is_empty()));
        let message = match told.is_empty() {
            true => format!("no ready node can answer ({reason})"),
            false => format!("no node could answer ({reason}): {}", told.join("; ")),
        };
        let (status, code) = self.kind();
        let failure = Failure::new(status, code, message);
        if status == StatusCode::SERVICE_UNAVAILABLE { failure.retry_after(self.retry_after()) } else { failure }
    }

    /// When to come back: as soon as somebody who said so has room again.
    fn retry_after(&self) -> u32 {
        let told = self.faults.iter().filter_map(|fault| match &fault.error {
            NodeError::Throttled { retry_after, .. } => Some(*retry_after),
            _ => None,
        });
        told.min().filter(|_| !self.was_full).unwrap_or(RETRY_AFTER)
    }

    fn kind(&self) -> (StatusCode, &'static str) {
        match self.faults.last().map(|fault| &fault.error) {
            _ if self.was_full => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            None => (StatusCode::SERVICE_UNAVAILABLE, "no_ready_node"),
            Some(NodeError::TimedOut(_)) => (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout"),
            Some(NodeError::Throttled { .. } | NodeError::Status { status: 429 | 503, .. }) => {
                (StatusCode::SERVICE_UNAVAILABLE, "overloaded")
            }
            Some(_) => (StatusCode::BAD_GATEWAY, "upstream_failed"),
        }
    }
}
