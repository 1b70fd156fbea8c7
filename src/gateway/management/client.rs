//! Asks a gateway for run records, and what it would do with a request.

use std::time::Duration;

use reqwest::{
    Client, Response, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    domain::{run_id::RunId, run_record::Feedback},
    gateway::{explain::view::Explanation, wish::SESSION},
    ports::{Page, RunRecord},
};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A client to one gateway.
pub struct GatewayClient {
    http: Client,
    base: Url,
}

/// Who has a key sends it.
fn headers(key: Option<&str>) -> Result<HeaderMap, String> {
    let Some(key) = key else { return Ok(HeaderMap::new()) };
    let mut value = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| "the key can't be sent in a header")?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

impl GatewayClient {
    /// For the gateway at this URL, asked with this key if there is one.
    ///
    /// # Errors
    /// When the URL or the key can't be used.
    pub fn new(gateway: &str, key: Option<&str>) -> Result<Self, String> {
        let base = Url::parse(gateway).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let base = base.ok_or_else(|| format!("{gateway}: write a URL such as http://127.0.0.1:11435"))?;
        let http = Client::builder().connect_timeout(CONNECT_WITHIN).default_headers(headers(key)?).no_proxy().build();
        Ok(Self { http: http.map_err(|error| error.to_string())?, base })
    }

    /// A page of records.
    ///
    /// # Errors
    /// The gateway's words, or that it can't be reached.
    pub async fn list(&self, query: &[(&str, String)]) -> Result<Page, String> {
        let mut url = self.url("")?;
        url.query_pairs_mut().extend_pairs(query);
        read(self.http.get(url)).await
    }

    /// One record.
    ///
    /// # Errors
    /// As for `list`.
    pub async fn get(&self, id: RunId) -> Result<RunRecord, String> {
        read(self.http.get(self.url(&format!("/{id}"))?)).await
    }

    /// Has a run repeated, with this request if it wasn't kept; the answer comes as the gateway sends it.
    ///
    /// # Errors
    /// As for `list`.
    pub async fn replay(&self, id: RunId, request: Option<Vec<u8>>) -> Result<Response, String> {
        send(self.http.post(self.url(&format!("/{id}/replay"))?).body(request.unwrap_or_default())).await
    }

    /// Notes what somebody thinks of an answer.
    ///
    /// # Errors
    /// As for `list`.
    pub async fn feedback(&self, id: RunId, feedback: &Feedback) -> Result<(), String> {
        send(self.http.post(self.url(&format!("/{id}/feedback"))?).json(feedback)).await.map(drop)
    }

    /// What would become of this request of a session now.
    ///
    /// # Errors
    /// As for `list`, also when the request would be refused.
    pub async fn explain(&self, request: &Value, session: Option<&str>) -> Result<Explanation, String> {
        let asked = self.http.post(self.path("/drover/v1/explain")?).json(request);
        read(session.into_iter().fold(asked, |asked, session| asked.header(SESSION, session))).await
    }

    fn url(&self, end: &str) -> Result<Url, String> {
        self.path(&format!("/drover/v1/runs{end}"))
    }

    fn path(&self, path: &str) -> Result<Url, String> {
        self.base.join(path).map_err(|error| error.to_string())
    }
}

async fn read<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T, String> {
    send(request).await?.json().await.map_err(|error| format!("the gateway's answer can't be read: {error}"))
}

async fn send(request: reqwest::RequestBuilder) -> Result<Response, String> {
    let answer = request
        .send()
        .await
        .map_err(|error| format!("the gateway can't be reached: {error}; say with --gateway where it is"))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let error: Value = answer.json().await.unwrap_or_default();
    let error = &error["error"];
    let message = error["message"].as_str().or(error.as_str()).unwrap_or("no reason given");
    Err(format!("the gateway answered {status}: {message}"))
}
