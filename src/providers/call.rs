//! One request to a provider.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use reqwest::{Response, header::CONTENT_TYPE};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    Providers, anthropic,
    faults::{self, Refused},
    introduce,
    native::{CANNOT_TRANSLATE, EmbedRequest, End, Request, Said, Writer},
    openai,
    reply::{Form, Reply},
};
use crate::{
    domain::provider::{Offer, Protocol},
    ports::{NodeError, NodeRequest, NodeResponse, ProviderKey},
};

/// What a request comes to.
enum Asked {
    Provider(Call),
    /// The model is to be loaded, which is no business of a provider's: Ollama's answer to that.
    Nothing(Vec<u8>),
}

/// A request in the provider's words, and how its answer is read.
struct Call {
    path: &'static str,
    body: Value,
    form: Form,
}

impl Providers {
    /// Asks the provider of `offer`, and answers as Ollama would.
    ///
    /// # Errors
    /// When there is no answer that says whose fault it is.
    pub async fn ask(&self, offer: &Offer, request: NodeRequest) -> Result<NodeResponse, NodeError> {
        let endpoint = &*offer.endpoint;
        let call = match call(offer, request.path, request.body.as_deref().unwrap_or_default()) {
            Ok(Asked::Provider(call)) => call,
            Ok(Asked::Nothing(loaded)) => return Ok(respond_at_once(200, loaded.into())),
            Err(message) => return Ok(refuse(400, &message)),
        };
        // Without its key the provider is as good as away; the caller can't help it.
        let key = self.key(endpoint).await.map_err(NodeError::Connect)?;
        let sent = self.http.post(format!("{}{}", endpoint.url, call.path)).json(&call.body);
        let sent = introduce(sent, endpoint, key.as_ref());
        let sent = request.trace.entries().fold(sent, |sent, (name, value)| sent.header(name, &value[..])).send();
        let within = request.head_within.min(endpoint.request_timeout);
        let answer = timeout(within, sent).await.map_err(|_| NodeError::TimedOut(within))?;
        let answer = answer.map_err(|error| faults::of_call(&error, within))?;
        if answer.status().is_success() {
            return Ok(respond(answer, call.form, key));
        }
        match faults::refused(answer, key.as_ref(), within).await {
            Refused::Answer { status, message } => Ok(refuse(status, &message)),
            Refused::Later(error) => Err(error),
        }
    }
}

fn call(offer: &Offer, path: &str, body: &[u8]) -> Result<Asked, String> {
    let protocol = offer.endpoint.protocol;
    if let "/api/embed" | "/api/embeddings" = path {
        if protocol == Protocol::Anthropic {
            return Err("embeddings: not supported by Anthropic's API".into());
        }
        let request: EmbedRequest = serde_json::from_slice(body).map_err(|_| CANNOT_TRANSLATE.to_owned())?;
        let form = Form::Embeddings { model: request.model.clone(), older: path == "/api/embeddings" };
        return Ok(Asked::Provider(Call { path: "/embeddings", body: openai::embed(request)?, form }));
    }
    let request = Request::read(body)?;
    let writer =
        Writer { model: request.model.clone(), created_at: Timestamp::now().to_string(), is_chat: path == "/api/chat" };
    if request.messages.is_empty() {
        let (mut loaded, end) = (Vec::new(), End { reason: "load".into(), ..End::default() });
        writer.line(&Said::default(), Some(&end), &mut loaded);
        return Ok(Asked::Nothing(loaded));
    }
    let (path, body) = match protocol {
        Protocol::OpenAI => ("/chat/completions", openai::chat(request, offer)?),
        Protocol::Anthropic => ("/v1/messages", anthropic::messages(request, offer)?),
    };
    Ok(Asked::Provider(Call { path, body, form: Form::Words { writer, protocol } }))
}

/// An answer with an error status, as Ollama writes it.
fn refuse(status: u16, message: &str) -> NodeResponse {
    respond_at_once(status, json!({ "error": message }).to_string().into())
}

fn respond_at_once(status: u16, body: Bytes) -> NodeResponse {
    NodeResponse { status, is_json: true, body: stream::iter([Ok(body)]).boxed() }
}

fn respond(answer: Response, form: Form, key: Option<ProviderKey>) -> NodeResponse {
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    // Some servers answer whole although a stream was asked for.
    let is_stream = kind.starts_with("text/event-stream");
    let pieces = answer.bytes_stream().map_err(|error| faults::of_call(&error, Duration::ZERO));
    NodeResponse { status: 200, is_json: false, body: Reply::new(form, is_stream, key).read(pieces.boxed()) }
}
