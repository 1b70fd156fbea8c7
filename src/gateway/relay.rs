//! An answer on its way from a node to a caller, piece by piece.

use std::{convert::Infallible, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream, stream::BoxStream};
use prometheus_client::metrics::counter as metrics;
use tokio::time::timeout;

use super::{balance::Place, counter::Account, ending::Ending, lines::Lines, run::Run, said::Said, voice::Voice};
use crate::{domain::run_record::Outcome, ports::NodeError};

/// The status of an answer whose first piece was sent.
const OK: u16 = 200;

/// A stream under way. Dropping it, as happens when the caller hangs up, ends the request on the node and then makes
/// the place there free; that counts as nothing.
pub struct Relay {
    source: Source,
    /// What was read before anything was sent.
    first: Option<Bytes>,
    /// Given back when the node has said all.
    place: Option<Place>,
    account: Option<Account>,
    broken: metrics::Counter,
    run: Run,
    /// Whether the node said that this was all.
    is_whole: bool,
    is_over: bool,
}

/// The beginning of a stream, of which nothing was sent.
pub struct Opened {
    first: Bytes,
    source: Source,
}

struct Source {
    upstream: Upstream,
    lines: Lines,
    voice: Voice,
    /// The node's last words, until somebody takes them.
    ending: Option<Ending>,
    /// Whether it is to be known if the node says anything, and it has said nothing so far.
    is_silent: bool,
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

impl Opened {
    /// Reads up to the first piece worth sending; with `until_words` up to the first one that says something, or to the end.
    ///
    /// # Errors
    /// When the stream broke, ended or told of an error before that: nothing has been sent, another node may be asked.
    pub async fn open(upstream: Upstream, voice: Voice, until_words: bool) -> Result<Self, NodeError> {
        let mut source = Source { upstream, lines: Lines::default(), voice, ending: None, is_silent: until_words };
        let mut out = BytesMut::new();
        while out.is_empty() || source.is_silent && source.ending.is_none() {
            let piece = source.upstream.next().await?;
            let last = piece.is_none();
            source.write(piece, &mut out)?;
            if last && (out.is_empty() || source.is_silent && source.ending.is_none()) {
                return Err(NodeError::Broken("the node sent nothing".into()));
            }
        }
        Ok(Self { first: out.freeze(), source })
    }

    /// Whether it is known to be over without a word, a thought or the call of a tool.
    pub fn is_empty(&self) -> bool {
        self.source.is_silent
    }

    /// What the node says at its end, if that has come.
    pub fn ending(&self) -> Option<&Ending> {
        self.source.ending.as_ref()
    }
}

impl Source {
    /// Writes the next piece; whether more may come.
    async fn advance(&mut self, out: &mut BytesMut) -> Result<bool, NodeError> {
        let piece = self.upstream.next().await?;
        let more = piece.is_some();
        self.write(piece, out)?;
        if !more {
            self.voice.end(out)?;
        }
        Ok(more)
    }

    /// Writes the lines that a piece completes; at the end (`None`) what was left over.
    fn write(&mut self, piece: Option<Bytes>, out: &mut BytesMut) -> Result<(), NodeError> {
        let whole = match piece {
            Some(piece) => self.lines.push(piece).map_err(|error| NodeError::Broken(error.to_string()))?,
            None => self.lines.rest().into_iter().collect(),
        };
        for line in whole {
            let ending = Ending::of_line(&line);
            self.is_silent = self.is_silent
                && Said::read(&line).is_ok_and(|said| said.is_silent() && said.message().thinking.is_empty());
            self.voice.line(line, out)?;
            self.ending = ending.or(self.ending.take());
        }
        Ok(())
    }
}

impl Relay {
    /// What was opened, for the caller of `run`. It holds its `place` to the end and then counts for `account`, and for
    /// `broken` when the node broke it off.
    pub fn new(opened: Opened, place: Place, account: Option<Account>, broken: metrics::Counter, run: Run) -> Self {
        let Opened { first, source } = opened;
        let (first, place) = (Some(first), Some(place));
        Self { source, first, place, account, broken, run, is_whole: false, is_over: false }
    }

    /// The pieces for the caller. The last one of a whole answer comes when its record is committed.
    pub fn pieces(self) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
        stream::unfold(self, |mut relay| async move { relay.next().await.map(|piece| (Ok(piece), relay)) })
    }

    /// The next piece for the caller; `None` when all has been sent.
    async fn next(&mut self) -> Option<Bytes> {
        let piece = match self.first.take() {
            Some(first) => first,
            None => self.read().await?,
        };
        self.run.keep_answer(&piece);
        let Some(ending) = self.source.ending.take() else { return Some(piece) };
        self.is_whole = true;
        self.count(None);
        self.account.iter().for_each(|account| account.answered(&self.run.answered(&ending, true, None)));
        self.run.ended(ending);
        match self.run.finish(Outcome::Answered, OK, None).await {
            Ok(()) => Some(piece),
            Err(failure) => {
                self.is_over = true;
                let mut out = BytesMut::new();
                self.source.voice.fail(&failure, &mut out);
                Some(out.freeze())
            }
        }
    }

    /// What the node says next; `None` at the end.
    async fn read(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        while out.is_empty() && !self.is_over {
            match self.source.advance(&mut out).await {
                Ok(more) => self.is_over = !more,
                Err(error) => {
                    self.is_over = true;
                    self.broke(&error, &mut out).await;
                }
            }
        }
        if self.is_over {
            self.source.upstream.body = stream::empty().boxed();
            self.place = None;
        }
        (!out.is_empty()).then(|| out.freeze())
    }

    /// Ends an answer after an error. One that is whole already needs no more than its end.
    async fn broke(&mut self, error: &NodeError, out: &mut BytesMut) {
        if self.is_whole {
            // It says itself that it is whole.
            let _ = self.source.voice.end(out);
            return;
        }
        let node = self.place.as_ref().map_or("", |place| &place.holder().node.name);
        self.source.voice.broke(node, error, out);
        self.source.ending = None;
        self.count(Some(error));
        self.account.iter().for_each(Account::failed);
        self.run.attempted(Outcome::Broken, Some(error.to_string()));
        self.run.keep_answer(out);
        // The caller is told of the worse already.
        let _ = self.run.finish(Outcome::Broken, OK, Some(error.to_string())).await;
    }

    fn count(&self, error: Option<&NodeError>) {
        if error.is_some() {
            self.broken.inc();
        }
        if let Some(place) = &self.place {
            place.note(error);
        }
    }
}
