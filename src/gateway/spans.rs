//! A request as spans: one for the request, one for each node that was asked, by OpenTelemetry's conventions for generative
//! AI. Nothing that was said is in them.

use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use opentelemetry::{
    Context, KeyValue, StringValue, Value,
    propagation::TextMapPropagator,
    trace::{Span as _, SpanContext, SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{SdkTracer, Span},
};

use super::task::Task;
use crate::{
    domain::{
        provider::provider_of,
        run_record::{Attempt, Outcome},
    },
    ports::{RunRecord, TraceHeaders},
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Options that the conventions have names for.
const OPTIONS: [(&str, &str); 7] = [
    ("temperature", "gen_ai.request.temperature"),
    ("top_p", "gen_ai.request.top_p"),
    ("top_k", "gen_ai.request.top_k"),
    ("num_predict", "gen_ai.request.max_tokens"),
    ("seed", "gen_ai.request.seed"),
    ("frequency_penalty", "gen_ai.request.frequency_penalty"),
    ("presence_penalty", "gen_ai.request.presence_penalty"),
];

/// The trace that a request belongs to, if it belongs to any, and its spans, if somebody wants them.
#[derive(Debug, Default)]
pub struct Trace {
    /// What the caller sent, for nodes if there are no spans of ours.
    headers: TraceHeaders,
    parent: Option<SpanContext>,
    open: Option<Box<Open>>,
}

#[derive(Debug)]
struct Open {
    tracer: SdkTracer,
    request: Span,
    attempt: Option<Span>,
}

impl Trace {
    /// Of a request with these headers; `tracer` makes its spans.
    pub fn begin(tracer: Option<&SdkTracer>, headers: &HeaderMap) -> Self {
        let parent = headers.contains_key(TRACEPARENT).then(|| parent(headers)).flatten();
        let passed = |name: HeaderName| {
            let value = parent.as_ref().and_then(|_| headers.get(name));
            value.map(|value| Bytes::copy_from_slice(value.as_bytes()))
        };
        let headers = TraceHeaders { parent: passed(TRACEPARENT), state: passed(TRACESTATE) };
        let open = tracer.map(|tracer| {
            let context =
                parent.clone().map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
            let request =
                tracer.span_builder("request").with_kind(SpanKind::Server).start_with_context(tracer, &context);
            Box::new(Open { tracer: tracer.clone(), request, attempt: None })
        });
        Self { headers, parent, open }
    }

    /// The trace's id: the caller's, or our own.
    pub fn id(&self) -> Option<String> {
        let own = self.open.as_ref().map(|open| open.request.span_context());
        own.or(self.parent.as_ref()).map(|context| context.trace_id().to_string())
    }

    /// A node is asked for this target from now on.
    pub fn attempt(&mut self, target: &str, node: &str) {
        let Some(open) = &mut self.open else { return };
        let context = Context::new().with_remote_span_context(open.request.span_context().clone());
        let span = open.tracer.span_builder(format!("attempt {target}")).with_kind(SpanKind::Client);
        let mut span = span.start_with_context(&open.tracer, &context);
        span.set_attribute(KeyValue::new("drover.node", node.to_owned()));
        open.attempt = Some(span);
    }

    /// What the node that is asked shall be told.
    pub fn headers(&self) -> TraceHeaders {
        let attempt = self.open.as_ref().and_then(|open| open.attempt.as_ref());
        match attempt.map(|span| written(span.span_context())) {
            Some(parent) => TraceHeaders { parent: Some(parent), state: self.headers.state.clone() },
            None => self.headers.clone(),
        }
    }

    /// That attempt ended.
    pub fn attempted(&mut self, attempt: &Attempt) {
        let Some(mut span) = self.open.as_mut().and_then(|open| open.attempt.take()) else { return };
        span.set_attribute(KeyValue::new("drover.outcome", attempt.outcome.name()));
        if attempt.outcome != Outcome::Answered {
            let reason = attempt.reason.clone().unwrap_or_default();
            span.set_attribute(KeyValue::new("error.type", attempt.outcome.name()));
            span.set_status(Status::error(reason));
        }
        span.end();
    }

    /// The request ended, and so did its last attempt.
    pub fn end(&mut self, task: Option<Task>, record: &RunRecord) {
        if let Some(attempt) = record.attempts.last() {
            self.attempted(attempt);
        }
        let Some(mut open) = self.open.take() else { return };
        open.request.update_name(name(task, record));
        open.request.set_attributes(attributes(task, record));
        if !matches!(record.outcome, Outcome::Answered | Outcome::Cancelled | Outcome::Refused) {
            open.request.set_status(Status::error(record.error.clone().unwrap_or_default()));
        }
        open.request.end();
    }
}

fn parent(headers: &HeaderMap) -> Option<SpanContext> {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers));
    Some(context.span().span_context().clone()).filter(SpanContext::is_valid)
}

fn written(context: &SpanContext) -> Bytes {
    let (trace, span, flags) = (context.trace_id(), context.span_id(), context.trace_flags().to_u8());
    format!("00-{trace}-{span}-{flags:02x}").into()
}

/// The operation and what it was asked of, once that is known to exist: a caller's own words would make names without end.
fn name(task: Option<Task>, record: &RunRecord) -> String {
    let operation = task.map_or("request", Task::operation);
    let resolved = record.resolved.as_ref();
    let asked = resolved.map(|resolved| resolved.deployment.as_ref().unwrap_or(&resolved.model));
    asked.map_or_else(|| operation.to_owned(), |asked| format!("{operation} {asked}"))
}

fn attributes(task: Option<Task>, record: &RunRecord) -> Vec<KeyValue> {
    let text = |name: &'static str, value: &str| KeyValue::new(name, value.to_owned());
    let mut all = vec![
        KeyValue::new("http.request.method", "POST"),
        text("http.route", &record.path),
        KeyValue::new("http.response.status_code", i64::from(record.status)),
        text("gen_ai.request.model", &record.requested),
        text("drover.run.id", &record.id.to_string()),
        text("drover.namespace", &record.namespace),
        KeyValue::new("drover.outcome", record.outcome.name()),
        KeyValue::new("drover.attempts", record.attempts.len() as i64),
        KeyValue::new("drover.queue.seconds", record.timings.queue_ms / 1000.0),
    ];
    all.extend(task.map(|task| KeyValue::new("gen_ai.operation.name", task.operation())));
    if record.outcome != Outcome::Answered {
        all.push(KeyValue::new("error.type", record.outcome.name()));
    }
    if let Some(resolved) = &record.resolved {
        all.extend([
            text("gen_ai.provider.name", provider_of(&resolved.model)),
            text("gen_ai.response.model", &resolved.model),
            text("drover.digest", &resolved.digest),
            text("drover.reason", &resolved.reason),
        ]);
        let more = [
            ("drover.deployment", &resolved.deployment),
            ("drover.version", &resolved.version),
            ("drover.node", &resolved.node),
        ];
        all.extend(more.into_iter().filter_map(|(name, value)| Some(text(name, value.as_ref()?))));
    }
    all.extend(record.timings.first_token_ms.map(|ms| KeyValue::new("drover.first_token.seconds", ms / 1000.0)));
    if let Some(reason) = &record.finish_reason {
        all.push(KeyValue::new(
            "gen_ai.response.finish_reasons",
            Value::Array(vec![StringValue::from(reason.clone())].into()),
        ));
    }
    let tokens =
        [("gen_ai.usage.input_tokens", record.tokens.prompt), ("gen_ai.usage.output_tokens", record.tokens.completion)];
    let tokens = tokens.into_iter().filter(|(_, count)| *count > 0);
    all.extend(tokens.map(|(name, count)| KeyValue::new(name, i64::try_from(count).unwrap_or(i64::MAX))));
    let options = OPTIONS.iter().filter_map(|(option, name)| {
        let value = &record.parameters.get(*option)?.value;
        let value = value.as_i64().map(Value::I64).or(value.as_f64().map(Value::F64))?;
        Some(KeyValue::new(*name, value))
    });
    all.extend(options);
    all
}
