//! A collector of spans, which decodes what it gets.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;
use tokio::net::TcpListener;

#[derive(Clone)]
pub struct Collector {
    pub url: String,
    batches: Arc<Mutex<Vec<Bytes>>>,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let batches: Arc<Mutex<Vec<Bytes>>> = Arc::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(batches.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, batches }
    }

    /// Everything it got, as it came.
    pub fn bytes(&self) -> Vec<u8> {
        self.batches.lock().unwrap().concat()
    }

    /// The spans so far.
    pub fn spans(&self) -> Vec<Span> {
        let all = self.requests().into_iter().flat_map(|request| request.resource_spans);
        all.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    /// What the spans' sender calls itself.
    pub fn services(&self) -> Vec<String> {
        let resources = self.requests().into_iter().flat_map(|request| request.resource_spans);
        resources.map(|resource| attribute(&resource.resource.unwrap().attributes, "service.name")).collect()
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let batches = self.batches.lock().unwrap();
        batches.iter().map(|batch| ExportTraceServiceRequest::decode(batch.clone()).unwrap()).collect()
    }
}

async fn take(State(batches): State<Arc<Mutex<Vec<Bytes>>>>, headers: HeaderMap, body: Bytes) {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    batches.lock().unwrap().push(body);
}

/// An attribute as text; nothing where there is none.
pub fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|attribute| attribute.key == key).and_then(|attribute| attribute.value.as_ref());
    value.map(text).unwrap_or_default()
}

fn text(value: &AnyValue) -> String {
    match value.value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::ArrayValue(values) => values.values.iter().map(text).collect::<Vec<_>>().join(","),
        other => panic!("{other:?}"),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
