//! One attempt: one node is asked, once.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use prometheus_client::metrics::counter as metrics;

use super::{
    Gateway,
    api::Api,
    ask::Ask,
    balance::Place,
    counter::Account,
    ending::Ending,
    failure::Failure,
    lines::{Lines, Renamer},
    relay::{Opened, Relay, Upstream},
    run::{Run, header},
    said::Said,
    schema::SchemaCheck,
    turn::give_way,
    voice::Voice,
};
use crate::{
    domain::{
        directory,
        params::{Truncation, widened},
        run_record::Outcome,
    },
    ports::{NodeError, NodeRequest, NodeResponse},
    routing_table::Target,
};

/// The longest whole answer that is read, in bytes.
const LONGEST_ANSWER: usize = 256 << 20;
/// What Ollama says of a prompt that is longer than the context window.
const TOO_LONG: &str = "exceeds the context length";
/// The code of the failure that follows.
pub const CONTEXT_OVERFLOW: &str = "context_length_exceeded";
/// How Ollama begins what it says with status 500 though the request is at fault: no node would do better.
const MISTAKES: [&str; 4] = ["invalid format: ", "invalid JSON schema in format", "option \"", "template: "];
/// The longest error that is read, in bytes.
const LONGEST_ERROR: usize = 64 << 10;

/// A node's answer.
pub struct Answer {
    /// Whether it was to be checked by a schema.
    pub is_checked: bool,
    /// Why the answer doesn't keep to the schema that it was to be checked by.
    pub schema_failure: Option<String>,
    /// Whether it is known to say nothing.
    is_empty: bool,
    content_type: &'static str,
    content: Content,
}

enum Content {
    /// All of it, and what the node says it cost.
    Whole(Bytes, Ending),
    /// Its beginning.
    Stream(Box<Opened>),
}

/// An answer that can be sent, and what it holds until it is.
pub struct Ready {
    /// The answer.
    pub answer: Answer,
    /// The place on the node.
    pub place: Place,
    /// Where it counts.
    pub account: Option<Account>,
    /// Where answers that a node broke off count.
    pub broken: metrics::Counter,
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

/// Asks the node of `place` for `target`, whose name there `renamer` replaces, in this run, up to the point from which the
/// answer can be sent. Where an empty answer is no good (`leaves_empty`), the beginning of a stream is held back until it says
/// something.
///
/// # Errors
/// Whose fault it is that there is no answer. Nothing has been sent to the caller then.
pub async fn attempt(
    gateway: &Gateway,
    ask: &Ask,
    target: &Target,
    renamer: Arc<Renamer>,
    place: &Place,
    run: &mut Run,
    leaves_empty: bool,
) -> Result<Answer, Missed> {
    let mut voice = Voice::new(ask, target, renamer, run.id);
    let (mut upstream, is_json) = match send(gateway, ask, target, place, &voice, run, false).await {
        Err(Missed::TooLong(_)) if target.offer.is_none() && may_truncate(gateway, ask) => {
            run.note(|record| record.truncated = true);
            send(gateway, ask, target, place, &voice, run, true).await?
        }
        sent => sent?,
    };
    // A request that only loads a model is answered in one piece, stream or not.
    let stream = ask.stream && !(is_json && ask.format.api() == Api::Ollama);
    let content_type = voice.content_type(stream);
    if stream && ask.check.is_none() {
        let opened = Opened::open(upstream, voice, leaves_empty).await?;
        let (is_empty, content) = (opened.is_empty(), Content::Stream(Box::new(opened)));
        return Ok(Answer { is_checked: false, schema_failure: None, is_empty, content_type, content });
    }
    let whole = read(&mut upstream, LONGEST_ANSWER).await?;
    let lines = if stream { split(&whole)? } else { vec![whole.clone()] };
    let fault = |check: &SchemaCheck| check.fault(lines.iter().map(|line| &line[..]));
    let fault = ask.check.as_deref().map(fault).transpose().map_err(|error| voice.renamer().hide(error))?;
    let is_empty = ask.task.streams() && says_nothing(&lines);
    let (written, ending) = if stream {
        let ending = lines.last().and_then(|last| Ending::of_whole(last));
        (voice.lines(lines)?, ending.unwrap_or_default())
    } else {
        voice.whole(&whole)?
    };
    let (is_checked, content) = (ask.check.is_some(), Content::Whole(written, ending));
    Ok(Answer { is_checked, schema_failure: fault.flatten(), is_empty, content_type, content })
}

/// Whether no line of an answer has a word or calls a tool.
fn says_nothing(lines: &[Bytes]) -> bool {
    lines.iter().all(|line| Said::read(line).is_ok_and(|said| said.is_silent()))
}

/// The lines of a whole answer.
fn split(whole: &Bytes) -> Result<Vec<Bytes>, NodeError> {
    let mut lines = Lines::default();
    let mut all = lines.push(whole.clone()).map_err(|error| NodeError::Broken(error.to_string()))?;
    all.extend(lines.rest());
    Ok(all)
}

/// Whether a prompt that is too long may be cut. It is first sent with the wish not to cut it: by the refusal it is known
/// that it would be cut.
pub fn may_truncate(gateway: &Gateway, ask: &Ask) -> bool {
    ask.task.truncates() && ask.truncate.unwrap_or(gateway.settings().truncation == Truncation::Allow)
}

/// The answer of a node that takes the request, and whether it comes as one JSON value.
async fn send(
    gateway: &Gateway,
    ask: &Ask,
    target: &Target,
    place: &Place,
    voice: &Voice,
    run: &mut Run,
    truncate: bool,
) -> Result<(Upstream, bool), Missed> {
    let settings = gateway.settings();
    let node = &*place.holder().node;
    // What is wrong with the window was told before the node was chosen.
    let wanted = ask.context(target, node).unwrap_or_default();
    let window = if target.offer.is_some() {
        wanted
    } else {
        let running = place.widen(wanted.map(|(window, _)| window));
        widened(wanted, running, node.max_context_length.map(u64::from))
    };
    let parameters = ask.parameters(target, node, window);
    let body = ask.body(target, &parameters, truncate);
    run.note(|record| {
        record.parameters = parameters.effective();
        record.dropped_parameters.clone_from(&parameters.dropped);
        record.keep_alive = parameters.effective_keep_alive();
        record.system_prompt = body.has_system_prompt.then(|| target.prompt_edition.clone()).flatten();
    });
    let request = NodeRequest {
        url: node.url.clone(),
        path: ask.task.path(),
        body: Some(body.bytes),
        head_within: settings.head_limit,
        offer: target.offer.clone(),
        trace: run.trace.headers(),
    };
    // Who streams wants the first piece soon; with so many pieces to come, one write more is nothing.
    if !ask.stream {
        give_way().await;
    }
    let NodeResponse { status, is_json, body } = gateway.inference().send(request).await?;
    let mut upstream = Upstream { body, silence: settings.silence_limit };
    if (200..300).contains(&status) {
        Ok((upstream, is_json))
    } else {
        Err(refusal(status, &mut upstream, voice).await)
    }
}

impl Answer {
    /// By what a chain would leave it.
    pub fn fault(&self) -> Option<directory::Failure> {
        let fault = self.schema_failure.as_ref().map(|_| directory::Failure::SchemaFailure);
        fault.or(self.is_empty.then_some(directory::Failure::Empty))
    }
}

impl Ready {
    /// Leaves an answer that is whole and not good enough, which counts as such; says what is wrong with it.
    pub fn leave(self, run: &Run) -> String {
        self.place.note(None);
        let ending = match &self.answer.content {
            Content::Whole(_, ending) => Some(ending),
            Content::Stream(opened) => opened.ending(),
        };
        if let Some(ending) = ending {
            let keeps_schema = self.answer.is_checked.then_some(self.answer.schema_failure.is_none());
            self.account.iter().for_each(|account| account.answered(&run.answered(ending, false, keeps_schema)));
        }
        self.answer.schema_failure.unwrap_or_else(|| "the answer is empty".into())
    }

    /// The response to the caller. It holds its place until the node has said all, and ends when the record of `run` is
    /// committed.
    ///
    /// # Errors
    /// When the record could not be stored, and that matters.
    pub async fn into_response(self, mut run: Run) -> Result<Response, Failure> {
        let Self { answer, place, account, broken } = self;
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
        run.stamp(response.headers_mut());
        *response.body_mut() = match answer.content {
            Content::Stream(opened) => Body::from_stream(Relay::new(*opened, place, account, broken, run).pieces()),
            Content::Whole(whole, ending) => {
                place.note(None);
                drop(place);
                let fault = answer.schema_failure;
                let keeps_schema = answer.is_checked.then_some(fault.is_none());
                account.iter().for_each(|account| account.answered(&run.answered(&ending, false, keeps_schema)));
                if let Some(value) = fault.as_deref().and_then(header) {
                    response.headers_mut().insert(HeaderName::from_static("x-drover-schema-failure"), value);
                }
                let outcome = if fault.is_some() { Outcome::SchemaFailure } else { Outcome::Answered };
                run.ended(ending);
                run.keep_answer(&whole);
                run.finish(outcome, StatusCode::OK.as_u16(), fault).await?;
                Body::from(whole)
            }
        };
        Ok(response)
    }
}

/// What an answer with an error status means: another node's turn, or the caller's own mistake.
async fn refusal(status: u16, upstream: &mut Upstream, voice: &Voice) -> Missed {
    let body = read(upstream, LONGEST_ERROR).await.unwrap_or_default();
    let message = voice.renamer().error(&body);
    if message.contains(TOO_LONG) {
        let message = format!("{message}: shorten the prompt, ask for a larger num_ctx, or let it be cut");
        return Missed::TooLong(Failure::new(StatusCode::BAD_REQUEST, CONTEXT_OVERFLOW, message));
    }
    if status == 500 && MISTAKES.iter().any(|start| message.starts_with(start)) {
        return Missed::ByCaller(Failure::bad_request(message));
    }
    let error = NodeError::Status { status, message };
    // A login is between the gateway and the node: none of the caller's business.
    let is_refusal = (400..500).contains(&status) || status == 501;
    let by_caller = is_refusal && !error.is_retryable() && !matches!(status, 401 | 402 | 403 | 407);
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
