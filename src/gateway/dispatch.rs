//! One request on its way through the nodes: attempt after attempt, until one answers.

use std::time::Duration;

use axum::{body::Body, http::StatusCode, response::Response};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use http::{HeaderValue, header::CONTENT_TYPE};
use tokio::time::Instant;

use super::{
    Gateway,
    ask::Ask,
    balance::{Place, is_about_connection},
    failure::Failure,
    plan::Leg,
    relay::{Relay, Upstream},
    run::Run,
    voice::Voice,
};
use crate::{
    ports::{NodeError, NodeRequest, NodeResponse},
    routing_table::{Holder, Node, Target},
};

/// The longest whole answer that is read, in bytes.
const LONGEST_ANSWER: usize = 256 << 20;
/// The longest error that is read, in bytes.
const LONGEST_ERROR: usize = 64 << 10;
/// Seconds after which a caller may try again when every node is full.
const RETRY_AFTER: u32 = 5;

/// What a request has behind it.
pub struct Dispatch<'a> {
    gateway: &'a Gateway,
    ask: &'a Ask,
    run: &'a mut Run,
    faults: Vec<Fault>,
    /// How long it may still wait for a place.
    patience: Duration,
    was_full: bool,
}

/// An attempt that failed through a node's fault.
struct Fault {
    id: String,
    node: String,
    /// The name the node was called with.
    model: String,
    error: NodeError,
}

/// A node's answer: all of it, or its first piece and a relay for the rest.
struct Answer {
    content_type: &'static str,
    first: Bytes,
    relay: Option<Relay>,
}

/// Why an attempt gave no answer.
enum Missed {
    ByNode(NodeError),
    ByCaller(Failure),
}

impl From<NodeError> for Missed {
    fn from(error: NodeError) -> Self {
        Self::ByNode(error)
    }
}

impl<'a> Dispatch<'a> {
    /// A request that has nothing behind it.
    pub fn new(gateway: &'a Gateway, ask: &'a Ask, run: &'a mut Run) -> Self {
        let patience = gateway.settings().queue_limit;
        Self { gateway, ask, run, faults: Vec::new(), patience, was_full: false }
    }

    /// The first answer, leg by leg.
    ///
    /// # Errors
    /// The caller's mistake, or why no node could answer.
    pub async fn run(mut self, legs: &[Leg<'_>]) -> Result<Response, Failure> {
        self.check_context(legs)?;
        for leg in legs {
            self.run.model.clone_from(&leg.target.tag);
            self.run.digest.clone_from(&leg.target.digest);
            self.run.version = leg.target.version.clone().unwrap_or_default();
            self.run.reason.clone_from(&leg.reason);
            self.run.node.clear();
            if let Some(response) = self.leg(leg).await? {
                return Ok(response);
            }
        }
        Err(self.failure(legs))
    }

    /// An answer from one of the leg's nodes; `None` when all failed or stayed full.
    async fn leg(&mut self, leg: &Leg<'_>) -> Result<Option<Response>, Failure> {
        loop {
            let holders = self.holders(leg.target);
            if holders.is_empty() {
                return Ok(None);
            }
            let since = Instant::now();
            let place = self.gateway.balance().place(holders, self.patience).await;
            self.patience = self.patience.saturating_sub(since.elapsed());
            let Some(place) = place else {
                self.was_full = true;
                return Ok(None);
            };
            self.run.attempts += 1;
            self.run.node.clone_from(&place.holder.node.name);
            self.run.digest.clone_from(&place.holder.digest);
            match self.attempt(leg.target, &place.holder.node).await {
                Ok(answer) => return Ok(Some(self.response(answer, leg, place))),
                Err(Missed::ByCaller(failure)) => return Err(failure),
                Err(Missed::ByNode(error)) => {
                    leg.counter.iter().for_each(|counter| counter.failed());
                    place.note(Some(&error));
                    let (id, node) = (place.holder.node.id.clone(), place.holder.node.name.clone());
                    self.faults.push(Fault { id, node, model: leg.target.model.clone(), error });
                }
            }
        }
    }

    /// The nodes that may still be asked: with room for the context, and without a failure of this target or of the
    /// connection behind them.
    fn holders(&self, target: &Target) -> Vec<Holder> {
        let failed = |holder: &&Holder| {
            self.faults.iter().any(|fault| {
                fault.id == holder.node.id && (fault.model == target.model || is_about_connection(&fault.error))
            })
        };
        let usable = target.holders.iter().filter(|holder| holder.node.weight > 0);
        let fitting = usable.filter(|holder| self.ask.context(target, &holder.node).is_ok());
        fitting.filter(|holder| !failed(holder)).cloned().collect()
    }

    /// The largest context that a holder allows, if all of them allow less than is needed.
    fn narrowest(&self, legs: &[Leg<'_>]) -> Option<u64> {
        let holders = legs.iter().flat_map(|leg| leg.target.holders.iter().map(|holder| (leg.target, holder)));
        holders.filter_map(|(target, holder)| self.ask.context(target, &holder.node).err()).max()
    }

    /// Refuses a context window that no node allows.
    fn check_context(&self, legs: &[Leg<'_>]) -> Result<(), Failure> {
        let Some(wanted) = self.ask.num_ctx else { return Ok(()) };
        let holders = || legs.iter().flat_map(|leg| &leg.target.holders);
        let limit = |holder: &Holder| holder.node.max_context_length.map_or(u64::MAX, u64::from);
        match holders().map(limit).max() {
            Some(largest) if wanted > largest => Err(Failure::bad_request(format!(
                "options.num_ctx: {wanted} tokens are more than the {largest} that any node allows"
            ))),
            _ => Ok(()),
        }
    }

    async fn attempt(&self, target: &Target, node: &Node) -> Result<Answer, Missed> {
        let settings = self.gateway.settings();
        let request = NodeRequest {
            url: node.url.clone(),
            path: self.ask.task.path(),
            body: self.ask.body(target, node),
            head_within: settings.head_limit,
        };
        let NodeResponse { status, body } = self.gateway.inference().send(request).await?;
        let mut upstream = Upstream { body, silence: settings.silence_limit };
        let voice = Voice::new(self.ask, target, &self.run.id);
        if !(200..300).contains(&status) {
            return Err(refusal(status, &mut upstream, &voice).await);
        }
        let content_type = voice.content_type(self.ask.stream);
        if self.ask.stream {
            let (first, relay) = Relay::open(upstream, voice).await?;
            return Ok(Answer { content_type, first, relay: Some(relay) });
        }
        let whole = read(&mut upstream, LONGEST_ANSWER).await?;
        Ok(Answer { content_type, first: voice.whole(&whole)?, relay: None })
    }

    fn response(&self, answer: Answer, leg: &Leg<'_>, place: Place) -> Response {
        let body = match answer.relay {
            Some(relay) => {
                Body::from_stream(stream::iter([Ok(answer.first)]).chain(relay.rest(place, leg.counter.clone())))
            }
            None => {
                place.note(None);
                leg.counter.iter().for_each(|counter| counter.succeeded());
                Body::from(answer.first)
            }
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
        response
    }

    /// Why no node could answer: every attempt with its reason.
    fn failure(&self, legs: &[Leg<'_>]) -> Failure {
        let reason = &self.run.reason;
        if self.faults.is_empty() && !self.was_full {
            let message = match self.narrowest(legs) {
                Some(limit) => {
                    format!("no ready node can answer ({reason}): num_ctx is over their limit of {limit} tokens")
                }
                None => format!("no ready node can answer ({reason})"),
            };
            return Failure::new(StatusCode::SERVICE_UNAVAILABLE, "no_ready_node", message).retry_after(RETRY_AFTER);
        }
        let mut tried: Vec<_> = self.faults.iter().map(|fault| format!("{}: {}", fault.node, fault.error)).collect();
        if self.was_full {
            tried.push(format!("no free place on any other node within {:?}", self.gateway.settings().queue_limit));
        }
        let message = format!("no node could answer ({reason}): {}", tried.join("; "));
        if self.was_full {
            return Failure::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message).retry_after(RETRY_AFTER);
        }
        let (status, code) = match self.faults.last().map(|fault| &fault.error) {
            Some(NodeError::TimedOut(_)) => (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout"),
            Some(NodeError::Status { status: 429 | 503, .. }) => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            _ => (StatusCode::BAD_GATEWAY, "upstream_failed"),
        };
        Failure::new(status, code, message)
    }
}

/// What an answer with an error status means: another node's turn, or the caller's own mistake.
async fn refusal(status: u16, upstream: &mut Upstream, voice: &Voice) -> Missed {
    let body = read(upstream, LONGEST_ERROR).await.unwrap_or_default();
    let message = voice.renamer().error(&body);
    let error = NodeError::Status { status, message };
    // A login is between the gateway and the node: none of the caller's business.
    let by_caller = (400..500).contains(&status) && !error.is_retryable() && !matches!(status, 401 | 403 | 407);
    match (StatusCode::from_u16(status), error) {
        (Ok(status), NodeError::Status { message, .. }) if by_caller => {
            Missed::ByCaller(Failure::new(status, "invalid_request", message))
        }
        (_, error) => Missed::ByNode(error),
    }
}

async fn read(upstream: &mut Upstream, longest: usize) -> Result<Bytes, NodeError> {
    let mut whole = BytesMut::new();
    while let Some(piece) = upstream.next().await? {
        if whole.is_empty() && piece.len() > longest || whole.len() + piece.len() > longest {
            return Err(NodeError::Broken(format!("an answer longer than {longest} bytes")));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}
