//! A node's answer in the words of the API that the caller speaks.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;

use super::{
    api::Api,
    ask::Ask,
    ending::Ending,
    failure::Failure,
    format::{Head, Translator},
    lines::Renamer,
    said::Said,
};
use crate::{domain::run_id::RunId, ports::NodeError, routing_table::Target};

/// How much of a digest stands for the weights in OpenAI's format.
const FINGERPRINT: usize = 12;

/// Writes an answer for the caller.
pub struct Voice {
    renamer: Arc<Renamer>,
    api: Api,
    form: Form,
}

enum Form {
    Ollama {
        /// The line written last.
        last: Bytes,
    },
    Translated(Box<dyn Translator>),
}

/// The part of an answer that says whether it is whole.
#[derive(Deserialize)]
struct End {
    #[serde(default)]
    done: bool,
}

impl Voice {
    /// For the answer to `ask` by `target`, in this run.
    pub fn new(ask: &Ask, target: &Target, renamer: Arc<Renamer>, run: RunId) -> Self {
        let head = || {
            let digest = target.digest.trim_start_matches("sha256:");
            Head {
                run: run.to_string(),
                created: Timestamp::now().as_second(),
                model: target.tag.clone(),
                fingerprint: format!("fp_{}", digest.get(..FINGERPRINT).unwrap_or(digest)),
            }
        };
        let form = ask.format.translator(head).map_or(Form::Ollama { last: Bytes::new() }, Form::Translated);
        Self { renamer, api: ask.format.api(), form }
    }

    /// How the node's name is kept from the caller.
    pub fn renamer(&self) -> &Renamer {
        &self.renamer
    }

    /// The content type of an answer that comes piece by piece, or whole.
    pub fn content_type(&self, stream: bool) -> &'static str {
        match (&self.form, stream) {
            (_, false) => "application/json; charset=utf-8",
            (Form::Ollama { .. }, true) => "application/x-ndjson",
            (Form::Translated(_), true) => "text/event-stream",
        }
    }

    /// Writes one line of the node's answer.
    ///
    /// # Errors
    /// The node's own error, or that the line is none of Ollama's. Nothing is written then.
    pub fn line(&mut self, line: Bytes, out: &mut BytesMut) -> Result<(), NodeError> {
        match &mut self.form {
            Form::Ollama { last } => {
                self.renamer.object(&line, out)?;
                out.put_u8(b'\n');
                *last = line;
                Ok(())
            }
            Form::Translated(translator) => {
                let written = Said::read(&line).and_then(|said| translator.line(&said, out));
                written.map_err(|error| self.renamer.hide(error))
            }
        }
    }

    /// Ends the answer, which has no more lines.
    ///
    /// # Errors
    /// When the lines so far are not a whole answer.
    pub fn end(&mut self, out: &mut BytesMut) -> Result<(), NodeError> {
        let whole = match &mut self.form {
            Form::Ollama { last } => serde_json::from_slice::<End>(last).is_ok_and(|end| end.done),
            Form::Translated(translator) => translator.end(out),
        };
        if whole { Ok(()) } else { Err(NodeError::Broken("the node ended its answer early".into())) }
    }

    /// Writes an answer that is all there.
    ///
    /// # Errors
    /// As for a line, and when the lines are not a whole answer.
    pub fn lines(&mut self, lines: Vec<Bytes>) -> Result<Bytes, NodeError> {
        let mut out = BytesMut::new();
        lines.into_iter().try_for_each(|line| self.line(line, &mut out))?;
        self.end(&mut out)?;
        Ok(out.freeze())
    }

    /// Ends an answer that broke off: inside the stream, as its status has been sent.
    pub fn broke(&mut self, node: &str, error: &NodeError, out: &mut BytesMut) {
        let message = match error {
            NodeError::Status { message, .. } => format!("node {node}: {message}"),
            other => format!("node {node} broke off in the middle of the answer: {other}; send the request again"),
        };
        self.fail(&Failure::new(StatusCode::BAD_GATEWAY, "upstream_failed", message), out);
    }

    /// Ends an answer with a failure inside the stream.
    pub fn fail(&mut self, failure: &Failure, out: &mut BytesMut) {
        let error = self.api.error(failure.status, &failure.message, failure.code);
        match &mut self.form {
            Form::Ollama { .. } => out.put(format!("{error}\n").as_bytes()),
            Form::Translated(translator) => translator.fail(&error, out),
        }
    }

    /// A whole answer, and what the node says that it cost.
    ///
    /// # Errors
    /// The node's own error, or that this isn't a whole answer.
    pub fn whole(&self, answer: &[u8]) -> Result<(Bytes, Ending), NodeError> {
        let answer = answer.trim_ascii();
        let ending = Ending::of_whole(answer);
        let written = match &self.form {
            Form::Ollama { .. } => {
                if ending.is_none() && serde_json::from_slice::<End>(answer).is_err() {
                    return Err(NodeError::Broken("the answer is not whole".into()));
                }
                let mut out = BytesMut::with_capacity(answer.len() + 64);
                self.renamer.object(answer, &mut out)?;
                out.freeze()
            }
            Form::Translated(translator) => translator.whole(answer).map_err(|error| self.renamer.hide(error))?,
        };
        Ok((written, ending.unwrap_or_default()))
    }
}
