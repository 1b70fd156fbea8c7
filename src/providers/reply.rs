//! A provider's answer as it comes, in Ollama's words.

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};

use super::{
    anthropic,
    native::{self, Translator, Writer},
    openai,
    sse::Events,
};
use crate::{
    domain::provider::Protocol,
    ports::{NodeError, ProviderKey},
};

/// The longest whole answer that is read, in bytes.
const LONGEST: usize = 256 << 20;

/// What an answer is.
pub enum Form {
    /// Text, thoughts and calls.
    Words {
        /// Writes them.
        writer: Writer,
        /// What the provider speaks.
        protocol: Protocol,
    },
    /// Vectors.
    Embeddings {
        /// The provider's name of the model.
        model: String,
        /// Whether Ollama's older form was asked for.
        older: bool,
    },
}

/// An answer under way.
pub struct Reply {
    kind: Kind,
    /// What must not be in an error.
    key: Option<ProviderKey>,
    is_over: bool,
}

enum Kind {
    Pieces { events: Events, translator: Box<dyn Translator> },
    Whole { form: Form, answer: Vec<u8> },
}

impl Reply {
    /// An answer of this form, of which nothing has come yet; `is_stream`: in events.
    pub fn new(form: Form, is_stream: bool, key: Option<ProviderKey>) -> Self {
        let kind = match form {
            Form::Words { writer, protocol } if is_stream => {
                let translator: Box<dyn Translator> = match protocol {
                    Protocol::OpenAI => Box::new(openai::Stream::new(writer)),
                    Protocol::Anthropic => Box::new(anthropic::Stream::new(writer)),
                };
                Kind::Pieces { events: Events::default(), translator }
            }
            form => Kind::Whole { form, answer: Vec::new() },
        };
        Self { kind, key, is_over: false }
    }

    /// The answer in Ollama's words, as it comes.
    pub fn read(
        self,
        pieces: BoxStream<'static, Result<Bytes, NodeError>>,
    ) -> BoxStream<'static, Result<Bytes, NodeError>> {
        let next = |(mut reply, mut pieces): (Self, BoxStream<'static, Result<Bytes, NodeError>>)| async move {
            if reply.is_over {
                return None;
            }
            let piece = pieces.next().await.transpose();
            let written = piece.and_then(|piece| reply.translate(piece.as_deref()));
            reply.is_over |= written.is_err();
            // A piece may make no line; that one came tells that the provider is alive.
            Some((written.map(Bytes::from), (reply, pieces)))
        };
        stream::unfold((self, pieces), next).boxed()
    }

    /// What a piece of the body, or its end, makes.
    fn translate(&mut self, piece: Option<&[u8]>) -> Result<Vec<u8>, NodeError> {
        self.is_over = piece.is_none();
        let mut out = Vec::new();
        let written = match &mut self.kind {
            Kind::Pieces { events, translator } => pieces(events, &mut **translator, piece, &mut out),
            Kind::Whole { answer, .. } if answer.len() + piece.map_or(0, <[u8]>::len) > LONGEST => {
                return Err(NodeError::Broken(format!("an answer longer than {LONGEST} bytes")));
            }
            Kind::Whole { form, answer } => match piece {
                Some(piece) => {
                    answer.extend_from_slice(piece);
                    Ok(())
                }
                None => whole(form, answer, &mut out),
            },
        };
        if let Err(message) = written {
            self.is_over = true;
            let message = self.key.as_ref().map_or(message.clone(), |key| key.hide(&message));
            native::error(&message, &mut out);
        }
        Ok(out)
    }
}

fn pieces(
    events: &mut Events,
    translator: &mut dyn Translator,
    piece: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    match piece {
        Some(piece) => events.push(piece)?.iter().try_for_each(|event| translator.event(event, out)),
        None => {
            events.rest().iter().try_for_each(|event| translator.event(event, out))?;
            translator.end(out)
        }
    }
}

fn whole(form: &Form, answer: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    match form {
        Form::Words { writer, protocol: Protocol::OpenAI } => openai::whole(answer, writer, out),
        Form::Words { writer, protocol: Protocol::Anthropic } => anthropic::whole(answer, writer, out),
        Form::Embeddings { model, older } => {
            *out = openai::embedded(answer, model, *older)?;
            Ok(())
        }
    }
}
