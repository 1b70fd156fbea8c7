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
    relay::{Relay, Upstream},
    tally::Counter,
    voice::Voice,
};
use crate::{
    ports::{NodeError, NodeRequest, NodeResponse},
    routing_table::{Node, Target},
};

/// The longest whole answer that is read, in bytes.
const LONGEST_ANSWER: usize = 256 << 20;
/// The longest error that is read, in bytes.
const LONGEST_ERROR: usize = 64 << 10;

/// A node's answer: all of it, or its first piece and a relay for the rest.
pub struct Answer {
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
    let settings = gateway.settings();
    let request = NodeRequest {
        url: node.url.clone(),
        path: ask.task.path(),
        body: ask.body(target, node),
        head_within: settings.head_limit,
    };
    let NodeResponse { status, body } = gateway.inference().send(request).await?;
    let mut upstream = Upstream { body, silence: settings.silence_limit };
    let voice = Voice::new(ask, target, run);
    if !(200..300).contains(&status) {
        return Err(refusal(status, &mut upstream, &voice).await);
    }
    let content_type = voice.content_type(ask.stream);
    if ask.stream {
        let (first, relay) = Relay::open(upstream, voice).await?;
        return Ok(Answer { content_type, first, relay: Some(relay) });
    }
    let whole = read(&mut upstream, LONGEST_ANSWER).await?;
    Ok(Answer { content_type, first: voice.whole(&whole)?, relay: None })
}

impl Answer {
    /// The response to the caller. It holds `place` until the node has said all, and then counts for `counter`, and
    /// for `broken` when the node broke it off.
    pub fn into_response(self, place: Place, counter: Option<Arc<Counter>>, broken: metrics::Counter) -> Response {
        let body = match self.relay {
            Some(relay) => Body::from_stream(stream::iter([Ok(self.first)]).chain(relay.rest(place, counter, broken))),
            None => {
                place.note(None);
                counter.iter().for_each(|counter| counter.succeeded());
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
    let error = NodeError::Status { status, message: voice.renamer().error(&body) };
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
        if whole.len() + piece.len() > longest {
            return Err(NodeError::Broken(format!("an answer longer than {longest} bytes")));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}
