//! Asks gateways what they serve.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use futures::{
    StreamExt,
    future::ready,
    stream::{self, BoxStream, FuturesUnordered},
};
use reqwest::{Client, Url};
use tokio::{net::lookup_host, time::timeout};

use crate::ports::{GatewayError, GatewayStats, Gateways};

/// For each gateway, and for its address.
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// A client to all gateways behind a list of URLs.
pub struct GatewayClient {
    http: Client,
    urls: Vec<String>,
}

impl GatewayClient {
    /// Each address that a URL's host name stands for is one gateway: behind a headless Service, every replica.
    ///
    /// # Errors
    /// When the TLS library can't be set up.
    pub fn new(urls: Vec<String>) -> Result<Self, reqwest::Error> {
        let http = Client::builder().timeout(ASK_WITHIN).connect_timeout(ASK_WITHIN).no_proxy().build()?;
        Ok(Self { http, urls })
    }

    /// The URL of each gateway behind `url`: every address of its host name.
    async fn replicas(url: &str) -> Result<Vec<Url>, GatewayError> {
        let unknown = |why: String| GatewayError::Unknown(url.to_owned(), why);
        let parsed = Url::parse(url).map_err(|error| unknown(error.to_string()))?;
        if parsed.scheme() == "https" {
            // A certificate is made out to the name, not to the addresses behind it.
            return Ok(vec![parsed]);
        }
        let (host, port) = (parsed.host_str().unwrap_or_default(), parsed.port_or_known_default().unwrap_or(80));
        let host = host.trim_matches(['[', ']']);
        // A name that isn't found is not proof that nobody serves: name servers fail, too.
        let late = |_| unknown(format!("no address within {ASK_WITHIN:?}"));
        let found = timeout(ASK_WITHIN, lookup_host((host, port))).await.map_err(late)?;
        let found = found.map_err(|error| unknown(error.to_string()))?;
        let found: BTreeSet<SocketAddr> = found.collect();
        let replica = |address: SocketAddr| {
            let mut replica = parsed.clone();
            replica.set_ip_host(address.ip()).map(|()| replica).ok()
        };
        Ok(found.into_iter().filter_map(replica).collect())
    }

    async fn ask(&self, url: Url, of: Option<[&str; 2]>) -> Result<GatewayStats, GatewayError> {
        let name = url.to_string();
        let mut stats =
            url.join("drover/v1/stats").map_err(|error| GatewayError::Unknown(name.clone(), error.to_string()))?;
        if let Some([namespace, deployment]) = of {
            stats.query_pairs_mut().append_pair("deployment", &format!("{namespace}/{deployment}"));
        }
        let unknown = |error: reqwest::Error| GatewayError::Unknown(name.clone(), error.to_string());
        let answer =
            self.http.get(stats).send().await.map_err(|error| match error.is_connect() && !error.is_timeout() {
                true => GatewayError::Away(name.clone()),
                false => unknown(error),
            })?;
        answer.error_for_status().map_err(unknown)?.json().await.map_err(unknown)
    }

    fn ask_replicas<'a>(
        &'a self,
        url: &'a str,
        of: Option<[&'a str; 2]>,
    ) -> BoxStream<'a, Result<GatewayStats, GatewayError>> {
        let ask_each = move |found: Result<Vec<Url>, GatewayError>| match found {
            Ok(replicas) => {
                let asked: FuturesUnordered<_> = replicas.into_iter().map(|replica| self.ask(replica, of)).collect();
                asked.filter(|answer| ready(!matches!(answer, Err(GatewayError::Away(_))))).boxed()
            }
            Err(error) => stream::once(ready(Err(error))).boxed(),
        };
        stream::once(Self::replicas(url)).flat_map(ask_each).boxed()
    }
}

impl Gateways for GatewayClient {
    fn stats<'a>(&'a self, of: Option<[&'a str; 2]>) -> BoxStream<'a, Result<GatewayStats, GatewayError>> {
        stream::select_all(self.urls.iter().map(|url| self.ask_replicas(url, of))).boxed()
    }
}
