//! Asks a Prometheus server for numbers that a canary is judged by.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use reqwest::{Client, Url};
use serde::Deserialize;

use crate::ports::Queries;

const ASK_WITHIN: Duration = Duration::from_secs(5);
const LONGEST_ERROR: usize = 200;

/// A client to one server.
pub struct Prometheus {
    http: Client,
    query: Url,
}

/// An answer of `/api/v1/query`, see <https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries>.
#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Answer {
    Success { data: Data },
    Error { error: String },
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Series>),
    Scalar((f64, String)),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Series {
    value: (f64, String),
}

impl Prometheus {
    /// The server at this URL.
    ///
    /// # Errors
    /// When the URL can't be one, or the TLS library can't be set up.
    pub fn new(url: &str) -> Result<Self, String> {
        let base = if url.ends_with('/') { url.to_owned() } else { format!("{url}/") };
        let query = Url::parse(&base).and_then(|base| base.join("api/v1/query")).map_err(|error| error.to_string())?;
        let http = Client::builder().timeout(ASK_WITHIN).no_proxy().build().map_err(|error| error.to_string())?;
        Ok(Self { http, query })
    }

    async fn ask(&self, text: &str) -> Result<f64, String> {
        let mut url = self.query.clone();
        url.query_pairs_mut().append_pair("query", text);
        let unreached = |error: reqwest::Error| format!("Prometheus could not be asked: {}", error.without_url());
        let answer = self.http.get(url).send().await.map_err(unreached)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(unreached)?;
        match serde_json::from_slice(&body) {
            Ok(Answer::Success { data }) => data.number(),
            Ok(Answer::Error { error }) => {
                Err(format!("Prometheus refuses the query: {}", error.chars().take(LONGEST_ERROR).collect::<String>()))
            }
            Err(_) => Err(format!("what answers with HTTP {status} at prometheus-url is no Prometheus server")),
        }
    }
}

impl Data {
    fn number(self) -> Result<f64, String> {
        let number =
            |text: String| text.parse().map_err(|_| format!("Prometheus answers {text:?}, which is no number"));
        match self {
            Self::Scalar((_, text)) => number(text),
            Self::Vector(series) => match <[Series; 1]>::try_from(series) {
                Ok([Series { value: (_, text) }]) => number(text),
                Err(series) => Err(format!("the query gives {} series, and must give one", series.len())),
            },
            Self::Other => Err("the query gives neither a number nor an instant vector".into()),
        }
    }
}

impl Queries for Prometheus {
    fn value<'a>(&'a self, query: &'a str) -> BoxFuture<'a, Result<f64, String>> {
        self.ask(query).boxed()
    }
}
