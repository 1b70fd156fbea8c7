//! One attempt: one node is asked, once.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use prometheus_client::metrics::counter as metrics;

use super::{
    Gateway,
    ask::Ask,
    balance::Place,
    failure::Failure,
    lines::Lines,
    relay::{Relay, Upstream},
    schema::SchemaCheck,
    tally::Counter,
    voice::Voice,
};
use crate::{
    domain::params::Truncation,
    ports::{NodeError, NodeRequest, NodeResponse},
    routing_table::{Node, Target},
};

/// The longest whole answer that is read, in bytes.
const LONGEST_ANSWER: usize = 256 << 20;
/// What Ollama says of a prompt that is longer than the context window.
const TOO_LONG: &str = "exceeds the context length";
/// The longest error that is read, in bytes.
const LONGEST_ERROR: usize = 64 << 10;

/// A node's answer: all of it, or its first piece and a relay for the rest.
pub struct Answer {
    /// Whether the prompt was cut, because it is longer than the context window.
    pub truncated: bool,
    /// Why the answer doesn't keep to the schema that it was to be checked by.
    pub schema_failure: Option<String>,
    content_type: &'static str,
    first: Bytes,
    relay: Option<Relay>,
}

/// Why an attempt gave no answer.
pub enum Missed {
    /// Through the node's fault: another one may do better.
    ByNode(NodeError),
    /// Through the caller's: no node would do better.
    ByCaller(Failure),
    /// The prompt is longer than the context window.
    TooLong(Failure),
}

impl From<NodeError> for Missed {
    fn from(error: NodeError) -> Self {
        Self::ByNode(error)
    }
}

/// Asks `node` for `target`, in the run with this id, up to the point from which the answer can be sent.
///
/// # Errors
/// Whose fault it is that there is no answer. Nothing has been sent to the caller then.
pub async fn attempt(gateway: &Gateway, ask: &Ask, target: &Target, node: &Node, run: &str) -> Result<Answer, Missed> {
    let mut voice = Voice::new(ask, target, run);
    let (mut upstream, truncated) = match send(gateway, ask, target, node, &voice, false).await {
        Err(Missed::TooLong(_)) if may_truncate(gateway, ask) => {
            (send(gateway, ask, target, node, &voice, true).await?, true)
        }
        sent => (sent?, false),
    };
    let content_type = voice.content_type(ask.stream);
    let answer = |first, relay, schema_failure| Answer { truncated, schema_failure, content_type, first, relay };
    if ask.stream && ask.check.is_none() {
        let (first, relay) = Relay::open(upstream, voice).await?;
        return Ok(answer(first, Some(relay), None));
    }
    let whole = read(&mut upstream, LONGEST_ANSWER).await?;
    let lines = if ask.stream { split(&whole)? } else { vec![whole.clone()] };
    let fault = |check: &SchemaCheck| check.fault(lines.iter().map(|line| &line[..]));
    let fault = ask.check.as_deref().map(fault).transpose().map_err(|error| voice.renamer().hide(error))?.flatten();
    let first = if ask.stream { voice.lines(lines)? } else { voice.whole(&whole)? };
    Ok(answer(first, None, fault))
}

/// The lines of a whole answer.
fn split(whole: &Bytes) -> Result<Vec<Bytes>, NodeError> {
    let mut lines = Lines::default();
    let mut all = lines.push(whole.clone()).map_err(|error| NodeError::Broken(error.to_string()))?;
    all.extend(lines.rest());
    Ok(all)
}

/// A prompt is first sent with the wish not to cut it: by the refusal it is known that it would be cut.
fn may_truncate(gateway: &Gateway, ask: &Ask) -> bool {
    ask.task.truncates() && ask.truncate.unwrap_or(gateway.settings().truncation == Truncation::Allow)
}

async fn send(
    gateway: &Gateway,
    ask: &Ask,
    target: &Target,
    node: &Node,
    voice: &Voice,
    truncate: bool,
) -> Result<Upstream, Missed> {
    let settings = gateway.settings();
    let request = NodeRequest {
        url: node.url.clone(),
        path: ask.task.path(),
        body: Some(ask.body(target, node, truncate)),
        head_within: settings.head_limit,
    };
    let NodeResponse { status, body } = gateway.inference().send(request).await?;
    let mut upstream = Upstream { body, silence: settings.silence_limit };
    if (200..300).contains(&status) { Ok(upstream) } else { Err(refusal(status, &mut upstream, voice).await) }
}

impl Answer {
    /// The response to the caller. It holds `place` until the node has said all, and then counts for `counter`, and
    /// for `broken` when the node broke it off.
    pub fn into_response(self, place: Place, counter: Option<Arc<Counter>>, broken: metrics::Counter) -> Response {
        let body = match self.relay {
            Some(relay) => Body::from_stream(stream::iter([Ok(self.first)]).chain(relay.rest(place, counter, broken))),
            None => {
                place.note(None);
                counter.iter().for_each(|counter| counter.succeeded(self.schema_failure.is_some()));
                Body::from(self.first)
            }
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        response
    }
}

/// What an answer with an error status means: another node's turn, or the caller's own mistake.
async fn refusal(status: u16, upstream: &mut Upstream, voice: &Voice) -> Missed {
    let body = read(upstream, LONGEST_ERROR).await.unwrap_or_default();
    let message = voice.renamer().error(&body);
    if message.contains(TOO_LONG) {
        let message = format!("{message}: shorten the prompt, ask for a larger num_ctx, or let it be cut");
        return Missed::TooLong(Failure::new(StatusCode::BAD_REQUEST, "context_length_exceeded", message));
    }
    let error = NodeError::Status { status, message };
    // A login is between the gateway and the node: none of the caller's business.
    let is_refusal = (400..500).contains(&status) || status == 501;
    let by_caller = is_refusal && !error.is_retryable() && !matches!(status, 401 | 403 | 407);
    match (StatusCode::from_u16(status), error) {
        (Ok(status), NodeError::Status { message, .. }) if by_caller => {
            Missed::ByCaller(Failure::new(status, "invalid_request", message))
        }
        (_, error) => Missed::ByNode(error),
    }
}

/// The whole of what a node sends.
///
/// # Errors
/// That it broke off, or is longer than `longest` bytes.
pub async fn read(upstream: &mut Upstream, longest: usize) -> Result<Bytes, NodeError> {
    let mut whole = BytesMut::new();
    while let Some(piece) = upstream.next().await? {
        if whole.len() + piece.len() > longest {
            return Err(NodeError::Broken(format!("an answer longer than {longest} bytes")));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}
