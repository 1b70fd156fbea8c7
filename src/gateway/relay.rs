//! An answer on its way from a node to a caller, piece by piece.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream, stream::BoxStream};
use prometheus_client::metrics::counter as metrics;
use tokio::time::timeout;

use super::{balance::Place, lines::Lines, tally::Counter, voice::Voice};
use crate::ports::NodeError;

/// A stream under way. Dropping it, as happens when the caller hangs up, ends the request on the node and then makes
/// the place there free; that counts as nothing.
pub struct Relay {
    upstream: Upstream,
    lines: Lines,
    voice: Voice,
    place: Option<Place>,
    counter: Option<Arc<Counter>>,
    broken: metrics::Counter,
}

/// The body of a node's answer.
pub struct Upstream {
    /// The body.
    pub body: BoxStream<'static, Result<Bytes, NodeError>>,
    /// How long the node may be silent.
    pub silence: Duration,
}

impl Upstream {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the connection broke or the node was silent for too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>, NodeError> {
        match timeout(self.silence, self.body.next()).await {
            Ok(piece) => piece.transpose(),
            Err(_) => Err(NodeError::TimedOut(self.silence)),
        }
    }
}

impl Relay {
    /// Reads up to the first piece worth sending, which comes back with the relay for the rest.
    ///
    /// # Errors
    /// When the stream broke, ended or told of an error before that: nothing has been sent, another node may be asked.
    pub async fn open(mut upstream: Upstream, mut voice: Voice) -> Result<(Bytes, Self), NodeError> {
        let (mut lines, mut out) = (Lines::default(), BytesMut::new());
        while out.is_empty() {
            let piece = upstream.next().await?;
            let last = piece.is_none();
            write(&mut lines, &mut voice, piece, &mut out)?;
            if last && out.is_empty() {
                return Err(NodeError::Broken("the node sent nothing".into()));
            }
        }
        let broken = metrics::Counter::default();
        Ok((out.freeze(), Self { upstream, lines, voice, place: None, counter: None, broken }))
    }

    /// The rest of the answer, which holds its `place` to the end and then counts for `counter`, and for
    /// `broken` when the node broke it off.
    pub fn rest(
        mut self,
        place: Place,
        counter: Option<Arc<Counter>>,
        broken: metrics::Counter,
    ) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
        (self.place, self.counter, self.broken) = (Some(place), counter, broken);
        stream::unfold(self, |mut relay| async move { relay.next().await.map(|piece| (Ok(piece), relay)) })
    }

    /// The next piece for the caller; `None` when all has been sent.
    async fn next(&mut self) -> Option<Bytes> {
        let node = self.place.as_ref()?.holder.node.clone();
        let mut out = BytesMut::new();
        while out.is_empty() {
            match self.advance(&mut out).await {
                Ok(true) => {}
                Ok(false) => {
                    self.finish(None);
                    break;
                }
                Err(error) => {
                    self.voice.broke(&node.name, &error, &mut out);
                    self.finish(Some(&error));
                    break;
                }
            }
        }
        (!out.is_empty()).then(|| out.freeze())
    }

    /// Writes the next piece; whether more may come.
    async fn advance(&mut self, out: &mut BytesMut) -> Result<bool, NodeError> {
        let piece = self.upstream.next().await?;
        let more = piece.is_some();
        write(&mut self.lines, &mut self.voice, piece, out)?;
        if !more {
            self.voice.end(out)?;
        }
        Ok(more)
    }

    fn finish(&mut self, error: Option<&NodeError>) {
        self.upstream.body = stream::empty().boxed();
        if error.is_some() {
            self.broken.inc();
        }
        if let Some(place) = self.place.take() {
            place.note(error);
        }
        if let Some(counter) = &self.counter {
            if error.is_none() { counter.succeeded(false) } else { counter.failed() }
        }
    }
}

/// Writes the lines that a piece completes; at the end (`None`) what was left over.
fn write(lines: &mut Lines, voice: &mut Voice, piece: Option<Bytes>, out: &mut BytesMut) -> Result<(), NodeError> {
    let whole = match piece {
        Some(piece) => lines.push(piece).map_err(|error| NodeError::Broken(error.to_string()))?,
        None => lines.rest().into_iter().collect(),
    };
    for line in whole {
        voice.line(line, out)?;
    }
    Ok(())
}
