//! A small registry that keeps state and counts each byte that it sends, for what a real one can't be made to do.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::parts::free_port;
use crate::parts::registry::{Image, digest_of};

const PIECE: usize = 64 << 10;

/// A registry in this process.
pub struct Fake {
    port: u16,
    pub state: Arc<Shared>,
    server: JoinHandle<()>,
}

pub struct Shared {
    content: Mutex<BTreeMap<String, Bytes>>,
    how: watch::Sender<How>,
    /// How often each byte of each blob was sent.
    sent: Mutex<BTreeMap<String, Vec<u8>>>,
    requests: Mutex<Vec<(String, HeaderMap)>>,
}

/// How it behaves.
#[derive(Clone, Default)]
pub struct How {
    pub ignores_ranges: bool,
    /// Each answer waits after so many bytes until this changes.
    pub hold_after: Option<usize>,
    /// Each answer breaks after so many bytes.
    pub cut_after: Option<usize>,
    pub damaged: bool,
    /// Blobs are elsewhere: the URL before `/v2/`.
    pub moved_to: Option<String>,
    /// Wants a bearer token, which the address at this URL gives.
    pub tokens_at: Option<String>,
    pub manifest_type: Option<&'static str>,
}

const GOOD_TOKEN: &str = "a-good-token";

impl Fake {
    pub async fn start() -> Self {
        let port = free_port();
        let state = Arc::new(Shared {
            content: Mutex::default(),
            how: watch::Sender::default(),
            sent: Mutex::default(),
            requests: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
        let app = Router::new().fallback(answer).with_state(state.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self { port, state, server }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Puts an image under `repository:tag`.
    pub fn put(&self, repository: &str, tag: &str, image: &Image) {
        let mut content = locked(&self.state.content);
        let manifest = Bytes::from(image.manifest_bytes());
        content.insert(format!("/v2/{repository}/manifests/{tag}"), manifest.clone());
        content.insert(format!("/v2/{repository}/manifests/{}", image.digest()), manifest);
        for blob in &image.blobs {
            content.insert(format!("/v2/{repository}/blobs/{}", digest_of(blob)), blob.clone().into());
        }
    }

    /// Replaces the bytes of a blob.
    pub fn replace(&self, repository: &str, digest: &str, bytes: Vec<u8>) {
        locked(&self.state.content).insert(format!("/v2/{repository}/blobs/{digest}"), bytes.into());
    }

    pub fn behave(&self, change: impl FnOnce(&mut How)) {
        self.state.how.send_modify(change);
    }

    /// Requests whose path ends so.
    pub fn requests(&self, end: &str) -> Vec<HeaderMap> {
        let requests = locked(&self.state.requests);
        requests.iter().filter(|(path, _)| path.ends_with(end)).map(|(_, headers)| headers.clone()).collect()
    }

    /// How often the bytes of a blob were sent: least and most often, and altogether.
    pub fn sent(&self, digest: &str) -> (u8, u8, u64) {
        let sent = locked(&self.state.sent);
        let Some(bytes) = sent.get(digest) else { return (0, 0, 0) };
        let total = bytes.iter().map(|count| u64::from(*count)).sum();
        (*bytes.iter().min().expect("not empty"), *bytes.iter().max().expect("not empty"), total)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic while counting")
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    locked(&shared.requests).push((path.clone(), request.headers().clone()));
    let how = shared.how.borrow().clone();
    if path == "/token" {
        return response(StatusCode::OK, format!(r#"{{"token": "{GOOD_TOKEN}", "expires_in": 300}}"#));
    }
    if let Some(refused) = how.tokens_at.as_ref().and_then(|realm| refuse(realm, request.headers())) {
        return refused;
    }
    let Some(content) = locked(&shared.content).get(&path).cloned() else {
        return response(StatusCode::NOT_FOUND, String::new());
    };
    let Some((_, digest)) = path.split_once("/blobs/") else {
        let mut answer = Response::new(Body::from(content));
        let kind = how.manifest_type.unwrap_or("application/vnd.docker.distribution.manifest.v2+json");
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        return answer;
    };
    if let Some(url) = how.moved_to {
        let mut answer = response(StatusCode::TEMPORARY_REDIRECT, String::new());
        answer.headers_mut().insert(header::LOCATION, format!("{url}{path}").parse().expect("a URL"));
        return answer;
    }
    send(shared, digest.to_owned(), content, request.headers(), how.ignores_ranges)
}

fn response(status: StatusCode, body: String) -> Response {
    Response::builder().status(status).body(Body::from(body)).expect("a valid answer")
}

fn refuse(realm: &str, headers: &HeaderMap) -> Option<Response> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if given == Some(&format!("Bearer {GOOD_TOKEN}")) {
        return None;
    }
    let mut answer = response(StatusCode::UNAUTHORIZED, String::new());
    let challenge = format!(r#"Bearer realm="{realm}/token",service="fake",scope="repository:team/foo:pull""#);
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.parse().expect("a header"));
    Some(answer)
}

fn send(shared: Arc<Shared>, digest: String, content: Bytes, headers: &HeaderMap, whole: bool) -> Response {
    let size = content.len();
    let range = headers.get(header::RANGE).filter(|_| !whole).map(|range| {
        let range = range.to_str().expect("text").strip_prefix("bytes=").expect("bytes");
        let (first, last) = range.split_once('-').expect("a range");
        first.parse::<usize>().expect("a number")..last.parse::<usize>().map_or(size, |last| (last + 1).min(size))
    });
    let mut answer = Response::builder();
    if let Some(range) = &range {
        let content = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        answer = answer.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, content);
    }
    let range = range.unwrap_or(0..size);
    answer = answer.header(header::CONTENT_LENGTH, range.len());
    let start = range.start;
    let body = stream::try_unfold(start, move |at| {
        let (shared, digest, content, end) = (shared.clone(), digest.clone(), content.clone(), range.end);
        async move {
            if at >= end {
                return Ok(None);
            }
            let mut how = shared.how.subscribe();
            let held = |how: &How| how.hold_after.is_none_or(|after| at - start < after);
            how.wait_for(held).await.map_err(io::Error::other)?;
            let (cut_after, damaged) = (how.borrow().cut_after, how.borrow().damaged);
            if cut_after.is_some_and(|after| at - start >= after) {
                // What was sent before shall arrive before the connection breaks.
                tokio::time::sleep(Duration::from_millis(20)).await;
                return Err(io::Error::other("cut, as the test wants"));
            }
            let to = (at + PIECE).min(end);
            let mut piece = content.slice(at..to);
            if damaged {
                let mut bytes = piece.to_vec();
                bytes[0] ^= 1;
                piece = bytes.into();
            }
            let mut sent = locked(&shared.sent);
            let counts = sent.entry(digest).or_insert_with(|| vec![0; content.len()]);
            counts[at..to].iter_mut().for_each(|count| *count = count.saturating_add(1));
            Ok(Some((piece, to)))
        }
    });
    answer.body(Body::from_stream(body)).expect("a valid answer")
}
