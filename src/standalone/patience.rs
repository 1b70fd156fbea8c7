//! Connections whose clients take too long are given up: one that is slow with a request's head, one that takes nothing
//! of what is sent to it, one that asks for nothing any more.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the whole head of a request, from its first byte on.
    pub head: Duration,
    /// Until its next request begins.
    pub idle: Duration,
    /// To take anything of what was sent.
    pub write: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        // The first two as the API server has them.
        Self { head: Duration::from_secs(32), idle: Duration::from_secs(90), write: Duration::from_secs(60) }
    }
}

/// Whether a connection's request is being answered.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<AtomicUsize>);

/// A request is being answered until this is dropped.
#[derive(Debug)]
pub struct Active(Activity);

impl Activity {
    /// Begins to answer a request.
    pub fn begin(&self) -> Active {
        self.0.fetch_add(1, Ordering::Relaxed);
        Active(self.clone())
    }

    fn is_answering(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection to a client.
pub struct Patient<S> {
    stream: S,
    patience: Patience,
    activity: Activity,
    /// Whether a part of a head has come.
    is_reading: bool,
    read_by: Pin<Box<Sleep>>,
    /// Set while something waits to be taken.
    written_by: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// Watches over a connection that was just made.
    pub fn new(stream: S, patience: Patience) -> Self {
        let read_by = Box::pin(sleep_until(Instant::now() + patience.idle));
        Self { stream, patience, activity: Activity::default(), is_reading: false, read_by, written_by: None }
    }

    /// Where is noted whether a request is being answered.
    pub fn activity(&self) -> Activity {
        self.activity.clone()
    }

    /// Some of an answer was sent: what comes next is another request.
    fn answered(&mut self) {
        self.is_reading = false;
        self.read_by.as_mut().reset(Instant::now() + self.patience.idle);
    }

    /// What a write or flush came to, unless it waits for too long.
    fn written<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.written_by = None;
            return outcome;
        }
        let limit = self.patience.write;
        let written_by = self.written_by.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)));
        ready!(written_by.as_mut().poll(context));
        Poll::Ready(Err(late("the client takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Poll::Ready(outcome) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            if !std::mem::replace(&mut this.is_reading, true) {
                this.read_by.as_mut().reset(Instant::now() + this.patience.head);
            }
            return Poll::Ready(outcome);
        }
        ready!(this.read_by.as_mut().poll(context));
        if this.activity.is_answering() {
            // Looked at again once there was an answer: it is written first.
            return Poll::Pending;
        }
        Poll::Ready(Err(late("the client asks for nothing")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        if outcome.is_ready() {
            self.answered();
        }
        self.written(context, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.written(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.written(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        if outcome.is_ready() {
            self.answered();
        }
        self.written(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

fn late(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}
