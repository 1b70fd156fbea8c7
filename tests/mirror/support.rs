//! A mirror under test, and the calls that a controller and a node make.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use crate::parts::drover::Drover;
use crate::parts::{eventually, free_port, http_client};

/// A running mirror.
pub struct Mirror {
    pub port: u16,
    pub drover: Drover,
    http: reqwest::Client,
}

/// An answer of a mirror.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// `error.reason` and `error.message`.
    #[track_caller]
    pub fn error(&self) -> (String, String) {
        let body = self.json();
        let text = |name: &str| body["error"][name].as_str().unwrap_or_else(|| panic!("no {name}: {body}")).to_owned();
        (text("reason"), text("message"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Mirror {
    /// One whose default upstream is at `upstream`.
    pub async fn over(upstream: &str, dir: &Path) -> Self {
        Self::with(&["--upstream", &format!("={upstream}")], dir).await
    }

    pub async fn with(arguments: &[&str], dir: &Path) -> Self {
        let port = free_port();
        Self { port, drover: Drover::mirror(port, dir, arguments).await, http: http_client() }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The name by which a node pulls.
    pub fn name(&self, token: &str, model: &str) -> String {
        format!("127.0.0.1:{}/{token}/{model}", self.port)
    }

    /// Grants `model` to `token`, with further fields.
    pub async fn grant(&self, token: &str, model: &str, mut more: Value) -> Answer {
        more["model"] = model.into();
        self.send(self.http.put(format!("{}/drover/v1/pulls/{token}", self.url())).json(&more)).await
    }

    /// The same, which must succeed.
    #[track_caller]
    pub fn granted(&self, token: &str, model: &str) -> impl Future<Output = Value> {
        let granting = self.grant(token, model, json!({}));
        async move {
            let answer = granting.await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            answer.json()
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.http.get(self.url() + path)).await
    }

    pub async fn head(&self, path: &str) -> Answer {
        self.send(self.http.head(self.url() + path)).await
    }

    /// A request to a path, to be sent with [`Self::send`].
    pub fn request(&self, method: http::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.url() + path)
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        self.try_send(request).await.expect("the mirror answers in full")
    }

    /// An error when the body is broken off.
    pub async fn try_send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        let answer = request.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        Ok(Answer { status, headers, body: answer.bytes().await? })
    }

    /// Some bytes of a blob.
    pub async fn range(&self, path: &str, range: Range<usize>) -> reqwest::Result<Bytes> {
        let spec = format!("bytes={}-{}", range.start, range.end - 1);
        let request = self.http.get(self.url() + path).header(http::header::RANGE, spec);
        let answer = self.try_send(request).await?;
        assert!(answer.status == StatusCode::PARTIAL_CONTENT, "{:?} {:?}", answer.status, answer.body);
        Ok(answer.body)
    }

    pub async fn stats(&self) -> Value {
        self.get("/drover/v1/stats").await.json()
    }

    /// Waits until one of the numbers is what it should be.
    pub async fn counts(&self, name: &str, is_right: impl Fn(i64) -> bool) {
        eventually(&format!("{name} in the stats"), Duration::from_secs(30), async || {
            let stats = self.stats().await;
            let number = stats[name].as_i64().expect("a number");
            if is_right(number) { Ok(()) } else { Err(stats) }
        })
        .await;
    }
}

/// Waits until a blob is in the mirror's folder under its own name, as it soon is after its last byte was given out.
pub async fn is_kept(dir: &Path, digest: &str) -> PathBuf {
    let file = dir.join("mirror-data/blobs").join(digest.replace(':', "-"));
    eventually("the blob is kept", Duration::from_secs(20), async || {
        if file.exists() { Ok(()) } else { Err(file.display().to_string()) }
    })
    .await;
    file
}

/// Where a blob is under a token.
pub fn blob(token: &str, model: &str, digest: &str) -> String {
    format!("/v2/{token}/{model}/blobs/{digest}")
}
