//! Talks to a mirror: grants for the controller, and the calls of its tools.

use std::{error::Error, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use reqwest::{Body, Client, Method, Request, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use super::{meters::MirrorStats, refusal::Envelope};
use crate::{
    domain::pull::Fault,
    ports::{GrantedModel, Mirror, MirrorError, PullGrant},
};

const CHUNK: usize = 1 << 20;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Longer than the mirror gives a registry.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);

/// A client to one mirror; cheap to clone.
#[derive(Clone)]
pub struct MirrorClient {
    http: Client,
    url: String,
    key: Option<String>,
}

impl MirrorClient {
    /// A client to the mirror at `url`, which knows it by `key`.
    ///
    /// # Errors
    /// When the TLS library can't be set up.
    pub fn new(url: &str, key: Option<String>) -> Result<Self, reqwest::Error> {
        let http = Client::builder().connect_timeout(CONNECT_WITHIN).no_proxy().tcp_nodelay(true).build()?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), key })
    }

    /// A request to a path of the mirror, with the key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Sends a request; the answer, if the mirror did what it was asked to.
    ///
    /// # Errors
    /// Why it didn't, in its own words.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, MirrorError> {
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = answer.text().await.unwrap_or_default();
        let Ok(Envelope { error }) = serde_json::from_str::<Envelope>(&text) else {
            return Err(MirrorError::Refused { status: status.as_u16(), message: text });
        };
        Err(match Fault::from_reason(&error.reason) {
            Some(fault) => {
                let retry_after = error.retry_after_seconds.map(Duration::from_secs);
                MirrorError::Pull { fault, message: error.message, retry_after }
            }
            None => MirrorError::Refused { status: status.as_u16(), message: error.message },
        })
    }

    /// Sends bytes, however many come; the answer is JSON.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        bytes: impl AsyncRead + Send + 'static,
    ) -> Result<T, MirrorError> {
        let body = Body::wrap_stream(ReaderStream::with_capacity(bytes, CHUNK));
        let answer = self.send(self.request(Method::POST, path).body(body)).await?;
        answer.json().await.map_err(|error| self.unreachable(&error))
    }

    /// Sends a request as it is; any status is an answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn execute(&self, request: Result<Request, reqwest::Error>) -> Result<Response, MirrorError> {
        let answer = match request {
            Ok(request) => self.http.execute(request).await,
            Err(error) => Err(error),
        };
        answer.map_err(|error| self.unreachable(&error))
    }

    /// A request without the key.
    pub fn get(&self, url: Url) -> RequestBuilder {
        self.http.get(url)
    }

    /// Whether a URL is one of this mirror's.
    pub fn is_at(&self, url: &Url) -> bool {
        Url::parse(&self.url)
            .is_ok_and(|own| own.host() == url.host() && own.port_or_known_default() == url.port_or_known_default())
    }

    /// What the mirror counted since its start.
    ///
    /// # Errors
    /// Why it didn't say.
    pub async fn stats(&self) -> Result<MirrorStats, MirrorError> {
        self.json(self.request(Method::GET, "/drover/v1/stats")).await
    }

    /// Sends a request that is answered with JSON.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, MirrorError> {
        let answer = self.send(request.timeout(ANSWER_WITHIN)).await?;
        answer.json().await.map_err(|error| self.unreachable(&error))
    }

    /// With the innermost cause: it says most, and has no URL with a token in it.
    fn unreachable(&self, error: &reqwest::Error) -> MirrorError {
        let causes = std::iter::successors(error.source(), |cause: &&(dyn Error + 'static)| (*cause).source());
        let why = match error.is_timeout() {
            true => "no answer in time".into(),
            false => causes.last().map_or_else(|| "unknown".into(), ToString::to_string),
        };
        MirrorError::Unreachable(format!("{}: {why}", self.url))
    }
}

impl Mirror for MirrorClient {
    fn grant<'a>(&'a self, token: &'a str, grant: PullGrant) -> BoxFuture<'a, Result<GrantedModel, MirrorError>> {
        let request = self.request(Method::PUT, &format!("/drover/v1/pulls/{token}")).json(&grant);
        self.json(request).boxed()
    }

    fn revoke<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<(), MirrorError>> {
        let request = self.request(Method::DELETE, &format!("/drover/v1/pulls/{token}")).timeout(ANSWER_WITHIN);
        async move { self.send(request).await.map(drop) }.boxed()
    }
}
