//! The only HTTP client to a node: Ollama's own API.

mod faults;
pub mod lines;
mod transport;
mod wire;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt, future::BoxFuture, stream::BoxStream};
use lines::lines;
use reqwest::{Certificate, Client, Method, RequestBuilder, Response};
use rustls::pki_types::CertificateDer;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use transport::Transport;

use crate::{
    domain::{
        node::{Probe, ProbeFault},
        pull::Line,
    },
    ports::{Inference, Load, ModelDetails, NodeApi, NodeError, NodeRequest, NodeResponse},
};

const CONNECT_WITHIN: Duration = Duration::from_secs(3);
const PROBE_WITHIN: Duration = Duration::from_secs(4);
const CALL_WITHIN: Duration = Duration::from_secs(30);
const LOAD_WITHIN: Duration = Duration::from_secs(600);
const USER_AGENT: &str = concat!("drover/", env!("CARGO_PKG_VERSION"));

/// A client to any number of nodes; cheap to clone, connections are kept and shared.
#[derive(Clone)]
pub struct Ollama {
    /// For what the controller asks.
    http: Client,
    /// For the requests of callers.
    transport: Arc<Transport>,
}

impl Ollama {
    /// A client with no state yet.
    ///
    /// # Errors
    /// When the TLS library can't be set up.
    pub fn new() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Self::trusting(Vec::new())
    }

    /// The same, which trusts these certificates besides the system's.
    ///
    /// # Errors
    /// As for `new`, and when one of them is none.
    pub fn trusting(roots: Vec<CertificateDer<'static>>) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let trusted: Result<Vec<_>, _> = roots.iter().map(|root| Certificate::from_der(root)).collect();
        let http = Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_WITHIN)
            .no_proxy()
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none());
        let http = match trusted? {
            none if none.is_empty() => http,
            trusted => http.tls_certs_merge(trusted),
        };
        Ok(Self { http: http.build()?, transport: Arc::new(Transport::new(roots)?) })
    }

    fn request(&self, method: Method, base: &str, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", base.trim_end_matches('/')))
    }

    async fn get<T: DeserializeOwned>(&self, base: &str, path: &str) -> Result<T, ProbeFault> {
        let answer = self.request(Method::GET, base, path).timeout(PROBE_WITHIN).send().await;
        let answer = answer.map_err(|error| faults::of_probe(&error))?;
        match answer.status().as_u16() {
            200 => answer.json().await.map_err(|error| match error.is_timeout() {
                true => ProbeFault::TimedOut,
                false => ProbeFault::NotOllama,
            }),
            401 | 403 => Err(ProbeFault::Unauthorized),
            _ => Err(ProbeFault::NotOllama),
        }
    }

    async fn call(&self, method: Method, base: &str, path: &str, body: Value) -> Result<Response, NodeError> {
        let answer = self.request(method, base, path).timeout(CALL_WITHIN).json(&body).send().await;
        accepted(answer.map_err(|error| faults::of_call(&error, CALL_WITHIN))?).await
    }
}

/// The answer, if its status says success; else the node's own words.
async fn accepted(answer: Response) -> Result<Response, NodeError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let text = answer.text().await.unwrap_or_default();
    let message = serde_json::from_str::<wire::Fault>(&text).map_or(text, |fault| fault.error);
    Err(NodeError::Status { status: status.as_u16(), message })
}

impl NodeApi for Ollama {
    fn probe<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Probe, ProbeFault>> {
        async move {
            let version: wire::Version = self.get(url, "/api/version").await?;
            let tags: wire::Tags = self.get(url, "/api/tags").await?;
            let loaded: wire::Loaded = self.get(url, "/api/ps").await?;
            Ok(wire::probe(version, tags, loaded))
        }
        .boxed()
    }

    fn details<'a>(&'a self, url: &'a str, model: &'a str) -> BoxFuture<'a, Result<ModelDetails, NodeError>> {
        async move {
            let answer = self.call(Method::POST, url, "/api/show", json!({ "model": model })).await?;
            let shown: wire::Shown = answer.json().await.map_err(|error| NodeError::Broken(error.to_string()))?;
            Ok(shown.into())
        }
        .boxed()
    }

    fn pull(&self, url: &str, model: &str, insecure: bool) -> BoxStream<'static, Result<Line, NodeError>> {
        let body = json!({ "model": model, "insecure": insecure, "stream": true });
        let request = self.request(Method::POST, url, "/api/pull").json(&body).send();
        async move {
            let answer = request.await.map_err(|error| faults::of_call(&error, CONNECT_WITHIN))?;
            let answer = accepted(answer).await?;
            Ok(lines(answer.bytes_stream().map_err(|error| faults::of_call(&error, CONNECT_WITHIN))))
        }
        .try_flatten_stream()
        .boxed()
    }

    fn copy<'a>(&'a self, url: &'a str, from: &'a str, to: &'a str) -> BoxFuture<'a, Result<(), NodeError>> {
        let body = json!({ "source": from, "destination": to });
        async move { self.call(Method::POST, url, "/api/copy", body).await.map(drop) }.boxed()
    }

    fn load<'a>(&'a self, url: &'a str, model: &'a str, how: Load) -> BoxFuture<'a, Result<(), NodeError>> {
        let mut body = json!({ "model": model, "options": how.options, "stream": false });
        // Each kind of model is refused by the other's path; nothing to work on means: only load it.
        let path = if how.embeds { "/api/embed" } else { "/api/generate" };
        if how.embeds {
            body["input"] = json!([]);
        }
        if let Some(keep_alive) = how.keep_alive {
            body["keep_alive"] = keep_alive.into();
        }
        // Big weights take minutes from a slow disk.
        let request = self.request(Method::POST, url, path).timeout(LOAD_WITHIN).json(&body).send();
        async move { accepted(request.await.map_err(|error| faults::of_call(&error, LOAD_WITHIN))?).await.map(drop) }
            .boxed()
    }

    fn delete<'a>(&'a self, url: &'a str, name: &'a str) -> BoxFuture<'a, Result<(), NodeError>> {
        async move { self.call(Method::DELETE, url, "/api/delete", json!({ "model": name })).await.map(drop) }.boxed()
    }
}

impl Inference for Ollama {
    fn send(&self, request: NodeRequest) -> BoxFuture<'_, Result<NodeResponse, NodeError>> {
        self.transport.send(request).boxed()
    }
}
