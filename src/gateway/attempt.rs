//! One attempt: one node is asked, once.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use prometheus_client::metrics::counter as metrics;

use super::{
    Gateway,
    ask::Ask,
    balance::Place,
    ending::Ending,
    failure::Failure,
    relay::{Opened, Relay, Upstream},
    run::Run,
    tally::Counter,
    voice::Voice,
};
use crate::{
    domain::run_record::Outcome,
    ports::{NodeError, NodeRequest, NodeResponse},
    routing_table::{Node, Target},
};

/// The longest whole answer that is read, in bytes.
const LONGEST_ANSWER: usize = 256 << 20;
/// The longest error that is read, in bytes.
const LONGEST_ERROR: usize = 64 << 10;

/// A node's answer.
pub struct Answer {
    content_type: &'static str,
    content: Content,
}

enum Content {
    /// All of it, and what the node says it cost.
    Whole(Bytes, Ending),
    /// Its beginning.
    Stream(Opened),
}

/// An answer that can be sent, and what it holds until it is.
pub struct Ready {
    /// The answer.
    pub answer: Answer,
    /// The place on the node.
    pub place: Place,
    /// Where it counts.
    pub counter: Option<Arc<Counter>>,
    /// Where answers that a node broke off count.
    pub broken: metrics::Counter,
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

/// Asks `node` for `target` in this run, up to the point from which the answer can be sent.
///
/// # Errors
/// Whose fault it is that there is no answer. Nothing has been sent to the caller then.
pub async fn attempt(
    gateway: &Gateway,
    ask: &Ask,
    target: &Target,
    node: &Node,
    run: &mut Run,
) -> Result<Answer, Missed> {
    let settings = gateway.settings();
    let body = ask.body(target, node);
    run.note(|record| {
        record.parameters = ask.effective(target, node);
        record.system_prompt = body.has_system_prompt.then(|| target.prompt_edition.clone()).flatten();
    });
    let request = NodeRequest {
        url: node.url.clone(),
        path: ask.task.path(),
        body: body.bytes,
        head_within: settings.head_limit,
    };
    let NodeResponse { status, body } = gateway.inference().send(request).await?;
    let mut upstream = Upstream { body, silence: settings.silence_limit };
    let voice = Voice::new(ask, target, &run.id.to_string());
    if !(200..300).contains(&status) {
        return Err(refusal(status, &mut upstream, &voice).await);
    }
    let content_type = voice.content_type(ask.stream);
    if ask.stream {
        return Ok(Answer { content_type, content: Content::Stream(Opened::open(upstream, voice).await?) });
    }
    let whole = read(&mut upstream, LONGEST_ANSWER).await?;
    Ok(Answer { content_type, content: Content::Whole(voice.whole(&whole)?, Ending::of_whole(&whole)) })
}

impl Ready {
    /// The response to the caller. It holds its place until the node has said all, and ends when the record of `run` is
    /// committed.
    ///
    /// # Errors
    /// When the record could not be stored, and that matters.
    pub async fn into_response(self, mut run: Run) -> Result<Response, Failure> {
        let Self { answer, place, counter, broken } = self;
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
        run.stamp(response.headers_mut());
        *response.body_mut() = match answer.content {
            Content::Stream(opened) => Body::from_stream(Relay::new(opened, place, counter, broken, run).pieces()),
            Content::Whole(whole, ending) => {
                place.note(None);
                drop(place);
                counter.iter().for_each(|counter| counter.succeeded());
                run.ended(ending);
                run.keep_answer(&whole);
                run.finish(Outcome::Answered, StatusCode::OK.as_u16(), None).await?;
                Body::from(whole)
            }
        };
        Ok(response)
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
