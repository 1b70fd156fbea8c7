//! Spans, sent to a collector by OTLP (protobuf over HTTP). Without an endpoint there are none, and nothing is done for them.
//!
//! Spans that end go into a bounded queue; what a slow collector has no room for is dropped. A thread of the SDK's takes them
//! from there in batches, and a service of ours sends those.

use std::{env, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};
use reqwest::Client;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::supervisor::{Supervisor, blocking};

/// Which variables name a collector, besides the setting.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const TRACES_PATH: &str = "/v1/traces";
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// The longest that one batch may take; the exporter's own limit (`OTEL_EXPORTER_OTLP_TIMEOUT`) is 10 s at first.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// How long the last spans may take when the process ends.
const FLUSH_WITHIN: Duration = Duration::from_secs(3);

/// Where spans go. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Exported>);

#[derive(Clone, Debug)]
struct Exported {
    provider: SdkTracerProvider,
    flushed: CancellationToken,
}

impl Traces {
    /// To the collector at `endpoint` or at the one that the environment names, as `service` unless that says otherwise. The work
    /// behind it is the supervisor's.
    ///
    /// # Errors
    /// When the endpoint, or what else the environment says about it, can't be used.
    pub fn start(supervisor: &mut Supervisor, endpoint: Option<&str>, service: &'static str) -> Result<Self, String> {
        let is_set = |name: &&str| env::var(name).is_ok_and(|value| !value.is_empty());
        if endpoint.is_none() && !ENDPOINTS.iter().any(is_set) {
            return Ok(Self::default());
        }
        let (traces, courier) = Self::new(endpoint, service)?;
        supervisor.service("traces", courier);
        Ok(traces)
    }

    /// The same, and the service that sends the spans.
    ///
    /// # Errors
    /// As for `start`.
    pub fn new(
        endpoint: Option<&str>,
        service: &'static str,
    ) -> Result<(Self, impl Future<Output = Result<(), String>> + Send + 'static), String> {
        // One batch is under way at a time.
        let (batches, waiting) = mpsc::channel(1);
        let exporter = SpanExporter::builder().with_http().with_http_client(Sender(batches));
        let exporter = match endpoint {
            Some(endpoint) => exporter.with_endpoint(format!("{}{TRACES_PATH}", endpoint.trim_end_matches('/'))),
            None => exporter,
        };
        let exporter = exporter.build().map_err(|error| format!("otlp-endpoint: {error}"))?;
        let resource = match env::var("OTEL_SERVICE_NAME") {
            Ok(name) if !name.is_empty() => Resource::builder().build(),
            _ => Resource::builder().with_service_name(service).build(),
        };
        let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
        let http = Client::builder().connect_timeout(CONNECT_WITHIN).timeout(SEND_WITHIN).build();
        let http = http.map_err(|error| error.to_string())?;
        let flushed = CancellationToken::new();
        let courier = carry(http, waiting, flushed.clone());
        Ok((Self(Some(Exported { provider, flushed })), courier))
    }

    /// Makes spans; `None` when nobody wants any.
    pub fn tracer(&self) -> Option<SdkTracer> {
        self.0.as_ref().map(|exported| exported.provider.tracer("drover"))
    }

    /// Sends what is left and ends the service.
    pub async fn finish(self) {
        let Some(Exported { provider, flushed }) = self.0 else { return };
        // The SDK waits for its own thread.
        let ended = blocking(move || provider.shutdown_with_timeout(FLUSH_WITHIN).map_err(std::io::Error::other)).await;
        if let Err(error) = ended {
            warn!(%error, "the last spans were not sent");
        }
        flushed.cancel();
    }
}

/// A batch, and where its answer goes.
type Batch = (Request<Bytes>, oneshot::Sender<Result<Response<Bytes>, HttpError>>);

/// Hands batches over to the service.
#[derive(Debug)]
struct Sender(mpsc::Sender<Batch>);

#[async_trait::async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (answer, later) = oneshot::channel();
        self.0.send((request, answer)).await?;
        later.await?
    }
}

/// Sends batches until the last one is sent. Says once that a collector is away, and once that it is back.
async fn carry(http: Client, mut batches: mpsc::Receiver<Batch>, flushed: CancellationToken) -> Result<(), String> {
    let mut is_away = false;
    loop {
        let (request, answer) = tokio::select! {
            batch = batches.recv() => match batch {
                Some(batch) => batch,
                None => break,
            },
            () = flushed.cancelled() => return Ok(()),
        };
        let sent = send(&http, request).await;
        let fault = match &sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("HTTP {}", response.status())),
            Err(error) => Some(error.to_string()),
        };
        if fault.is_some() != is_away {
            is_away = fault.is_some();
            match fault {
                Some(error) => warn!(error, "spans can't be sent to the collector, and are dropped"),
                None => info!("the collector takes spans again"),
            }
        }
        // Whoever asked may have given up.
        drop(answer.send(sent));
    }
    flushed.cancelled().await;
    Ok(())
}

async fn send(http: &Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let answer = http.execute(request.try_into()?).await?;
    let mut response = Response::builder().status(answer.status());
    if let Some(headers) = response.headers_mut() {
        *headers = answer.headers().clone();
    }
    Ok(response.body(answer.bytes().await?)?)
}
