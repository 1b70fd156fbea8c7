//! The only HTTP client to providers: servers of others that speak OpenAI's API or Anthropic's.
//!
//! The gateway asks a provider as it asks a node, by Ollama's own API, and gets Ollama's answer: the translation in both
//! directions is here, and pure. So every format of callers, streams, records and checks are the same for providers and
//! nodes.

pub mod anthropic;
mod call;
mod check;
mod faults;
mod image;
pub mod keys;
pub mod native;
pub mod openai;
mod reply;
pub mod sse;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use reqwest::{Client, RequestBuilder};

use crate::{
    domain::provider::{Endpoint, Protocol},
    ports::{Inference, NodeError, NodeRequest, NodeResponse, ProviderKey, ProviderKeys},
};

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const USER_AGENT: &str = concat!("drover/", env!("CARGO_PKG_VERSION"));
/// The edition of Anthropic's API that this speaks.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// A client to any number of providers; cheap to clone, connections are kept and shared.
#[derive(Clone)]
pub struct Providers {
    http: Client,
    keys: Arc<dyn ProviderKeys>,
}

impl Providers {
    /// A client that finds keys by `keys`.
    ///
    /// # Errors
    /// When the TLS library can't be set up.
    pub fn new(keys: Arc<dyn ProviderKeys>) -> Result<Self, reqwest::Error> {
        let builder = Client::builder().user_agent(USER_AGENT).connect_timeout(CONNECT_WITHIN).tcp_nodelay(true);
        // A redirect would take the key to somebody else.
        let http = builder.redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { http, keys })
    }

    /// The provider's key; the error is for people.
    async fn key(&self, endpoint: &Endpoint) -> Result<Option<ProviderKey>, String> {
        self.keys.key(&endpoint.namespace, &endpoint.key).await
    }
}

/// A request with what the provider knows its caller by.
fn introduce(mut request: RequestBuilder, endpoint: &Endpoint, key: Option<&ProviderKey>) -> RequestBuilder {
    if endpoint.protocol == Protocol::Anthropic {
        request = request.header("anthropic-version", ANTHROPIC_VERSION);
    }
    for (name, value) in &endpoint.headers {
        request = request.header(name, value);
    }
    match (key, endpoint.protocol) {
        (None, _) => request,
        (Some(key), Protocol::OpenAI) => request.bearer_auth(key.expose()),
        (Some(key), Protocol::Anthropic) => request.header("x-api-key", key.expose()),
    }
}

/// Nodes and providers, each asked in its own way.
pub struct NodesAndProviders {
    /// The nodes.
    pub nodes: Arc<dyn Inference>,
    /// The providers.
    pub providers: Providers,
}

impl Inference for NodesAndProviders {
    fn send(&self, request: NodeRequest) -> BoxFuture<'_, Result<NodeResponse, NodeError>> {
        match &request.offer {
            None => self.nodes.send(request),
            Some(offer) => {
                let offer = offer.clone();
                async move { self.providers.ask(&offer, request).await }.boxed()
            }
        }
    }
}
