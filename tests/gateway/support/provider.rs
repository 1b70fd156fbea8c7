//! Providers as a controller leaves them, and their keys.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::HeaderMap,
    response::Response,
};
use drover::{
    api::Provider,
    domain::provider::KeySource,
    ports::{ProviderKey, ProviderKeys},
    routing_table::{
        RoutingTable,
        compile::{Objects, compile},
    },
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The key of every provider in these tests, which must not be seen anywhere.
pub const KEY: &str = "sk-never-to-be-seen-4711";

/// Has one key for whoever names a Secret, but for the Secret `none`.
pub struct OneKey;

impl ProviderKeys for OneKey {
    fn key<'a>(&'a self, _: &'a str, source: &'a KeySource) -> BoxFuture<'a, Result<Option<ProviderKey>, String>> {
        let key = match source {
            KeySource::Secret { name, .. } if name == "none" => Err("Secret none is not there".into()),
            KeySource::Secret { .. } => Ok(ProviderKey::new(KEY)),
            _ => Ok(None),
        };
        async move { key }.boxed()
    }
}

/// A provider named `far` whose last check passed, with these parts of its spec.
pub fn provider(kind: &str, url: &str, more: Value) -> Provider {
    let mut spec = json!({ "type": kind, "url": url, "apiKeySecretRef": { "name": "far" } });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "apiVersion": "drover.dev/v1alpha1", "kind": "Provider",
        "metadata": { "name": "far", "namespace": "default" },
        "spec": spec,
        "status": { "conditions": [{
            "type": "Ready", "status": "True", "reason": "Answering", "message": "",
            "lastTransitionTime": "2026-11-20T20:00:00Z",
        }] },
    }))
    .unwrap()
}

/// A table that has this provider alone.
pub fn offering(provider: Provider) -> RoutingTable {
    let objects = Objects { providers: vec![Arc::new(provider)], ..Objects::default() };
    compile(&objects, Timestamp::UNIX_EPOCH)
}

/// Models by name only.
pub fn models(names: &[&str]) -> Value {
    json!({ "models": names.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>() })
}

/// What a [`Far`] server does with a request.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    pieces: Vec<String>,
    end: End,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Whole,
    Cut,
    Never,
}

impl Reply {
    /// A whole answer.
    pub fn json(status: u16, body: Value) -> Self {
        let headers = vec![("content-type", "application/json")];
        Self { status, headers, pieces: vec![body.to_string()], end: End::Whole }
    }

    /// A page for people.
    pub fn page(status: u16) -> Self {
        let page = "<html><body>Bad gateway: secret backend 10.1.2.3</body></html>";
        Self { status, headers: vec![("content-type", "text/html")], pieces: vec![page.into()], end: End::Whole }
    }

    /// Events.
    pub fn events(events: &[Value]) -> Self {
        let pieces = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        Self { status: 200, headers: vec![("content-type", "text/event-stream")], pieces, end: End::Whole }
    }

    /// The same with this header.
    pub fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same, ended by the word of OpenAI's streams.
    pub fn done(mut self) -> Self {
        self.pieces.push("data: [DONE]\n\n".into());
        self
    }

    /// The same, but the connection is cut at the end.
    pub fn cut(mut self) -> Self {
        self.end = End::Cut;
        self
    }

    /// The same, but nothing more comes, and no end.
    pub fn held(mut self) -> Self {
        self.end = End::Never;
        self
    }

    fn into_response(self, under_way: UnderWay) -> Response {
        let end = match self.end {
            End::Whole => stream::empty().boxed(),
            End::Cut => stream::iter([Err(io::Error::other("cut"))]).boxed(),
            End::Never => stream::pending().boxed(),
        };
        let pieces = stream::iter(self.pieces.into_iter().map(|piece| Ok(Bytes::from(piece)))).chain(end);
        // Each piece goes out before the next one is there.
        let pieces = pieces.then(move |piece| {
            let _ = &under_way;
            async {
                tokio::task::yield_now().await;
                piece
            }
        });
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        response.body(Body::from_stream(pieces)).unwrap()
    }
}

/// A request as a server of somebody else gets it.
#[derive(Clone, Debug)]
pub struct Got {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
}

/// A server of somebody else, which answers what it is told to and remembers what it was asked.
#[derive(Clone)]
pub struct Far {
    pub url: String,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    got: Arc<Mutex<Vec<Got>>>,
    under_way: Arc<AtomicUsize>,
}

/// An answer that is being sent.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Far {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let far = Self { url, replies: Arc::default(), got: Arc::default(), under_way: Arc::default() };
        let router = Router::new().fallback(answer).with_state(far.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        far
    }

    /// What to do with the next request that has no reply yet.
    pub fn next(&self, reply: Reply) {
        self.replies.lock().unwrap().push_back(reply);
    }

    /// How many answers are being sent.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }

    /// Every request so far.
    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

async fn answer(State(far): State<Far>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    far.got.lock().unwrap().push(Got { path: parts.uri.to_string(), headers: parts.headers, body });
    let reply = far.replies.lock().unwrap().pop_front().expect("a reply");
    reply.into_response(UnderWay::new(&far.under_way))
}
