//! A proxy that stands for the line to a registry: slow, stalled or refusing as a test wants.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use http::{HeaderValue, Method, StatusCode, header};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::{end_to_end, free_port, http_client};
use super::Registry;

/// A proxy in front of a [`Registry`]. By itself it changes one thing only: the answer to a request for a whole blob
/// gets a `Location`, from which Ollama takes the address for its downloads.
pub struct RegistryFront {
    address: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// What was asked of one method and path, as in `GET /v2/drover/alpha/manifests/1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    pub requests: u64,
    /// Bytes of answers that were given to the connection; the caller of an abandoned answer may have read fewer.
    pub bytes: u64,
}

impl RegistryFront {
    pub async fn start(upstream: &Registry) -> Self {
        Self::start_on(upstream, free_port()).await
    }

    /// The same on a port that is known beforehand.
    pub async fn start_on(upstream: &Registry, port: u16) -> Self {
        Self::start_at(upstream, "127.0.0.1", port).await
    }

    /// The same on another address of this machine.
    pub async fn start_at(upstream: &Registry, address: &str, port: u16) -> Self {
        let shared = Arc::new(Shared {
            upstream: upstream.url(),
            http: http_client(),
            line: watch::Sender::default(),
            bandwidth_used_until: Mutex::new(Instant::now()),
            served: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind((address, port)).await.expect("the port is free");
        let app = Router::new().fallback(proxy).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("the front serves") });
        Self { address: format!("{address}:{port}"), shared, server }
    }

    /// Host and port, as in the name of a model.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Limits what all downloads of blobs together get, also those under way.
    pub fn limit_bandwidth(&self, bytes_per_second: Option<u64>) {
        self.shared.line.send_modify(|line| line.bytes_per_second = bytes_per_second);
    }

    /// Answers every request with this status until it is set to None.
    pub fn fail_with(&self, status: Option<StatusCode>) {
        self.shared.line.send_modify(|line| line.failure = status);
    }

    /// Sends this `Retry-After` with every refusal.
    pub fn retry_after(&self, value: &str) {
        self.shared.line.send_modify(|line| line.retry_after = Some(value.into()));
    }

    /// Fails as said above, but only for blobs.
    pub fn fail_blobs_with(&self, status: Option<StatusCode>) {
        self.shared.line.send_modify(|line| line.blob_failure = status);
    }

    /// Breaks the connection whenever an answer has sent so many bytes of a blob.
    pub fn cut_after(&self, bytes: Option<u64>) {
        self.shared.line.send_modify(|line| line.cut_after = bytes);
    }

    /// Sends blobs with one wrong byte in each piece.
    pub fn damage(&self, damaged: bool) {
        self.shared.line.send_modify(|line| line.damaged = damaged);
    }

    /// Accepts requests and sends nothing, also for downloads under way, until it is set to false.
    pub fn stall(&self, stalled: bool) {
        self.shared.line.send_modify(|line| line.stalled = stalled);
    }

    /// From now on a repository answers 401 to requests whose `Authorization` header has another value.
    pub fn protect(&self, repository: &str, authorization: &str) {
        let (path, secret) = (format!("/v2/{repository}/"), authorization.to_owned());
        self.shared.line.send_modify(|line| _ = line.protected.insert(path, secret));
    }

    /// Everything that was asked for since the start, by method and path.
    pub fn served(&self) -> BTreeMap<String, Served> {
        self.shared.served().clone()
    }

    /// All bytes of blobs that were sent.
    pub fn blob_bytes(&self) -> u64 {
        self.shared.served().iter().filter(|(path, _)| is_blob(path)).map(|(_, served)| served.bytes).sum()
    }
}

impl Drop for RegistryFront {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Shared {
    upstream: String,
    http: reqwest::Client,
    line: watch::Sender<Line>,
    /// When the bytes that were let through so far are through, at the present bandwidth.
    bandwidth_used_until: Mutex<Instant>,
    served: Mutex<BTreeMap<String, Served>>,
}

/// The state of the line, set by the test.
#[derive(Default)]
struct Line {
    bytes_per_second: Option<u64>,
    failure: Option<StatusCode>,
    stalled: bool,
    retry_after: Option<String>,
    blob_failure: Option<StatusCode>,
    cut_after: Option<u64>,
    damaged: bool,
    /// Path prefix of a repository and the `Authorization` that opens it.
    protected: HashMap<String, String>,
}

impl Line {
    fn refusal(&self, request: &Request) -> Option<StatusCode> {
        let given = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let closed = |(prefix, secret): (&String, &String)| {
            request.uri().path().starts_with(prefix) && given != Some(secret.as_bytes())
        };
        let locked = self.protected.iter().any(closed);
        let of_blob = self.blob_failure.filter(|_| is_blob(request.uri().path()));
        self.failure.or(of_blob).or(locked.then_some(StatusCode::UNAUTHORIZED))
    }
}

impl Shared {
    fn served(&self) -> MutexGuard<'_, BTreeMap<String, Served>> {
        self.served.lock().expect("no panic while counting")
    }

    async fn wait_while_stalled(&self) {
        let flows = |line: &Line| !line.stalled;
        self.line.subscribe().wait_for(flows).await.expect("the sender is in self");
    }

    /// Waits for this chunk's turn on the line.
    async fn pass(&self, bytes: usize) {
        self.wait_while_stalled().await;
        let Some(rate) = self.line.borrow().bytes_per_second else { return };
        let turn = {
            let mut used_until = self.bandwidth_used_until.lock().expect("no panic while counting");
            let turn = (*used_until).max(Instant::now());
            *used_until = turn + Duration::from_secs_f64(bytes as f64 / rate as f64);
            turn
        };
        tokio::time::sleep_until(turn).await;
        self.wait_while_stalled().await;
    }

    /// The piece, damaged if that is wanted; an error where the connection shall break.
    fn spoilt(&self, piece: Bytes, sent: &AtomicU64) -> io::Result<Bytes> {
        let line = self.line.borrow();
        let before = sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        if line.cut_after.is_some_and(|cut| before >= cut) {
            return Err(io::Error::other("cut, as the test wants"));
        }
        if !line.damaged {
            return Ok(piece);
        }
        let mut bytes = piece.to_vec();
        bytes[0] ^= 1;
        Ok(bytes.into())
    }

    /// Pieces that take about a twentieth of a second each, so that a new bandwidth holds soon.
    fn pieces(&self, chunk: Bytes) -> Vec<Bytes> {
        let size = self.line.borrow().bytes_per_second.map_or(usize::MAX, |rate| (rate as usize / 20).max(256));
        (0..chunk.len()).step_by(size).map(|at| chunk.slice(at..chunk.len().min(at.saturating_add(size)))).collect()
    }
}

async fn proxy(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let what = format!("{} {}", request.method(), request.uri().path());
    shared.served().entry(what.clone()).or_default().requests += 1;
    shared.wait_while_stalled().await;
    let (refusal, retry_after) = {
        let line = shared.line.borrow();
        (line.refusal(&request), line.retry_after.clone())
    };
    if let Some(status) = refusal {
        return refuse(status, retry_after);
    }
    let whole_blob =
        is_blob(&what) && request.method() == Method::GET && !request.headers().contains_key(header::RANGE);
    let location = whole_blob.then(|| own_url(&request));
    match forward(&shared, request).await {
        Ok(answer) => hand_on(shared, what, answer, location),
        Err(error) => Response::builder().status(StatusCode::BAD_GATEWAY).body(Body::from(error.to_string())),
    }
    .expect("parts of valid answers")
}

fn is_blob(path: &str) -> bool {
    path.contains("/blobs/sha256:")
}

fn refuse(status: StatusCode, retry_after: Option<String>) -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    if let Some(when) = retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, when.parse().expect("a header"));
    }
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"registry\""));
    }
    answer
}

fn own_url(request: &Request) -> HeaderValue {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    HeaderValue::from_str(&format!("http://{host}{}", request.uri())).expect("parts of a valid request")
}

async fn forward(shared: &Shared, request: Request) -> reqwest::Result<reqwest::Response> {
    let (parts, body) = request.into_parts();
    let url = format!("{}{}", shared.upstream, parts.uri);
    let mut headers = end_to_end(parts.headers);
    headers.remove(header::AUTHORIZATION); // it is for this proxy; the registry has no logins
    let body = reqwest::Body::wrap_stream(body.into_data_stream());
    shared.http.request(parts.method, url).headers(headers).body(body).send().await
}

fn hand_on(
    shared: Arc<Shared>,
    what: String,
    answer: reqwest::Response,
    location: Option<HeaderValue>,
) -> http::Result<Response> {
    let mut response = Response::builder().status(answer.status());
    let headers = response.headers_mut().expect("a valid status");
    *headers = end_to_end(answer.headers().clone());
    if let Some(location) = location.filter(|_| answer.status() == StatusCode::OK) {
        headers.insert(header::LOCATION, location);
    }
    response.body(Body::from_stream(metered(shared, what, answer.bytes_stream())))
}

/// The body as the line lets it through, counted as it goes.
fn metered(
    shared: Arc<Shared>,
    what: String,
    body: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let limited = is_blob(&what);
    let cut = shared.clone();
    let pieces = body
        .map_err(io::Error::other)
        .map_ok(move |chunk| stream::iter(cut.pieces(chunk).into_iter().map(Ok)))
        .try_flatten();
    let sent = Arc::new(AtomicU64::new(0));
    pieces.then(move |piece: io::Result<Bytes>| {
        let (shared, what, sent) = (shared.clone(), what.clone(), sent.clone());
        async move {
            let mut piece: Bytes = piece?;
            if limited {
                shared.pass(piece.len()).await;
                piece = shared.spoilt(piece, &sent)?;
            }
            shared.served().entry(what).or_default().bytes += piece.len() as u64;
            Ok(piece)
        }
    })
}
