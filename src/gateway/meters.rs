//! What a gateway counts of requests. Labels are fixed words, and models and nodes as the table names them: no caller,
//! nothing of what callers say.

mod gauges;
mod models;
mod refusals;

pub use gauges::Gauges;
pub use models::{ByModel, ModelMeters, Models};
pub use refusals::Refusals;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    http::StatusCode,
    response::Response,
};
use bytes::Bytes;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use tokio::time::Instant;

use crate::ports::NodeError;

/// A path that is answered by a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// `/api/chat`
    Chat,
    /// `/api/generate`
    Generate,
    /// `/api/embed`
    Embed,
    /// `/api/embeddings`
    Embeddings,
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/v1/completions`
    Completions,
    /// `/v1/embeddings`
    OpenAiEmbeddings,
    /// `/v1/responses`
    Responses,
    /// `/v1/messages`
    Messages,
}

const PATHS: [&str; 9] = [
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/embeddings",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl Path {
    /// As it is called.
    pub fn name(self) -> &'static str {
        PATHS[self as usize]
    }
}

/// What became of an attempt on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// The node began to answer.
    Answered,
    /// It failed, and nothing had been sent to the caller.
    Failed,
    /// The request was wrong: no node would do better.
    Refused,
    /// The answer does not keep to the schema that was asked for.
    SchemaFailure,
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Reason {
    /// No connection to the node.
    NoConnection,
    /// No answer in time.
    TimedOut,
    /// The answer broke off.
    BrokenOff,
    /// The node has too much to do (408, 429, 503).
    Overloaded,
    /// The node does not have the model (404).
    NotFound,
    /// The node wants a login (401, 403, 407).
    Unauthorized,
    /// Any other error of the node's.
    ServerError,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByClass {
    path: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPath {
    path: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: Outcome,
}

type Durations = Family<ByPath, Histogram, fn() -> Histogram>;

/// The counters, each found beforehand, so that a request looks nothing up.
#[derive(Debug)]
pub struct Meters {
    families: (Family<ByClass, Counter>, Family<ByOutcome, Counter>, Durations, Durations),
    paths: [Arc<PathMeters>; PATHS.len()],
    answered: Counter,
    failed: Counter,
    refused: Counter,
    schema_failure: Counter,
    broken: Counter,
    in_flight: Gauge,
    failures: Family<ByReason, Counter>,
    refusals: Refusals,
    queue_wait: Histogram,
    models: Models,
}

#[derive(Debug)]
struct PathMeters {
    in_flight: Gauge,
    classes: [Counter; CLASSES.len()],
    first_byte: Histogram,
    whole: Histogram,
}

impl Default for Meters {
    fn default() -> Self {
        let requests = Family::<ByClass, Counter>::default();
        let attempts = Family::<ByOutcome, Counter>::default();
        let first_bytes = Durations::new_with_constructor(duration);
        let wholes = Durations::new_with_constructor(duration);
        let in_flight = Gauge::default();
        let meters = |path| PathMeters {
            in_flight: in_flight.clone(),
            classes: CLASSES.map(|code| requests.get_or_create_owned(&ByClass { path, code })),
            first_byte: first_bytes.get_or_create_owned(&ByPath { path }),
            whole: wholes.get_or_create_owned(&ByPath { path }),
        };
        let paths = PATHS.map(|path| Arc::new(meters(path)));
        let attempt = |outcome| attempts.get_or_create_owned(&ByOutcome { outcome });
        Self {
            answered: attempt(Outcome::Answered),
            failed: attempt(Outcome::Failed),
            refused: attempt(Outcome::Refused),
            schema_failure: attempt(Outcome::SchemaFailure),
            families: (requests, attempts, first_bytes, wholes),
            paths,
            broken: Counter::default(),
            in_flight,
            failures: Family::default(),
            refusals: Refusals::default(),
            queue_wait: duration(),
            models: Models::default(),
        }
    }
}

impl Meters {
    /// Lets `/metrics` show them: those that OpenTelemetry's conventions name, under those names.
    pub fn register(&self, conventions: &mut Registry, registry: &mut Registry) {
        self.models.register(conventions, registry);
        let help = "Attempts that failed through the node's fault, by reason";
        registry.register("gateway_failed_attempts", help, self.failures.clone());
        self.refusals.register(registry);
        let help = "Time that a request waited for places on nodes";
        registry.register_with_unit("gateway_queue_wait", help, Unit::Seconds, self.queue_wait.clone());
        let (requests, attempts, first_bytes, wholes) = self.families.clone();
        registry.register("gateway_requests", "Requests for a model by path and class of HTTP status", requests);
        registry.register("gateway_attempts", "Attempts on nodes", attempts);
        registry.register("gateway_broken_answers", "Answers that a node broke off", self.broken.clone());
        registry.register("gateway_in_flight_requests", "Requests being answered", self.in_flight.clone());
        let help = "Time from a request to the first piece of its answer";
        registry.register_with_unit("gateway_first_byte", help, Unit::Seconds, first_bytes);
        let help = "Time from a request to the end of its answer";
        registry.register_with_unit("gateway_request_duration", help, Unit::Seconds, wholes);
    }

    /// Counts a request from now until its answer has gone out.
    pub fn begin(&self, path: Path) -> UnderWay {
        self.in_flight.inc();
        UnderWay { began: Instant::now(), meters: self.paths[path as usize].clone() }
    }

    /// Counts an attempt.
    pub fn attempt(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Answered => &self.answered,
            Outcome::Failed => &self.failed,
            Outcome::Refused => &self.refused,
            Outcome::SchemaFailure => &self.schema_failure,
        };
        counter.inc();
    }

    /// Counts why an attempt failed.
    pub fn failed(&self, error: &NodeError) {
        self.failures.get_or_create(&ByReason { reason: reason(error) }).inc();
    }

    /// Where requests are counted that were refused for their key or its limits.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Counts how long a request waited for a place.
    pub fn waited(&self, waited: Duration) {
        self.queue_wait.observe(waited.as_secs_f64());
    }

    /// What is counted by model.
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// Where answers that a node broke off are counted.
    pub fn broken(&self) -> Counter {
        self.broken.clone()
    }
}

fn reason(error: &NodeError) -> Reason {
    match error {
        NodeError::Connect(_) => Reason::NoConnection,
        NodeError::TimedOut(_) => Reason::TimedOut,
        NodeError::Broken(_) => Reason::BrokenOff,
        NodeError::Throttled { .. } => Reason::Overloaded,
        NodeError::Status { status, .. } => match status {
            408 | 429 | 503 => Reason::Overloaded,
            404 => Reason::NotFound,
            401 | 403 | 407 => Reason::Unauthorized,
            _ => Reason::ServerError,
        },
    }
}

/// From a millisecond to ten minutes and more.
fn duration() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.5, 16))
}

/// A request that is being answered; ends when it is dropped.
pub struct UnderWay {
    began: Instant,
    meters: Arc<PathMeters>,
}

impl UnderWay {
    /// The first piece of the answer is there; the request ends with the last one, or when the caller hangs up.
    pub fn answered(self, response: Response) -> Response {
        self.meters.first_byte.observe(self.began.elapsed().as_secs_f64());
        if let Some(counter) = class(response.status()).and_then(|class| self.meters.classes.get(class)) {
            counter.inc();
        }
        if response.body().size_hint().exact().is_some() {
            return response;
        }
        response.map(|body| Body::new(Counted { body, _under_way: self }))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.meters.in_flight.dec();
        self.meters.whole.observe(self.began.elapsed().as_secs_f64());
    }
}

fn class(status: StatusCode) -> Option<usize> {
    usize::from(status.as_u16() / 100).checked_sub(1)
}

/// A body that keeps its request under way.
struct Counted {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
