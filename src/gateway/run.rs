//! One request under way: what is told about it in the headers of its answer, and the record that it leaves.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    ask::Ask, callers::Visit, counter::Answered, ending::Ending, failure::Failure, meters::ModelMeters, plan::Leg,
    recorder::Recorder, spans::Trace, task::Task,
};
use crate::{
    domain::{
        provider::Price,
        run_id::RunId,
        run_record::{Attempt, Capture, Outcome, Resolved, Session, Timings, Tokens},
    },
    ports::RunRecord,
    routing_table::Holder,
};

/// The longest request and the longest answer that are kept, in bytes.
const LONGEST_CAPTURE: usize = 1 << 20;
/// As many headers as an answer usually has, so that there is room for them from the start.
const HEADERS: usize = 14;

// Constants, so that no request has to check them.
const RUN_ID: HeaderName = HeaderName::from_static("x-drover-run-id");
const FINGERPRINT: HeaderName = HeaderName::from_static("x-drover-fingerprint");
const FINGERPRINT_CHANGED: HeaderName = HeaderName::from_static("x-drover-fingerprint-changed");
const MODEL: HeaderName = HeaderName::from_static("x-drover-model");
const DIGEST: HeaderName = HeaderName::from_static("x-drover-digest");
const VERSION: HeaderName = HeaderName::from_static("x-drover-version");
const NODE: HeaderName = HeaderName::from_static("x-drover-node");
const REASON: HeaderName = HeaderName::from_static("x-drover-reason");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-drover-attempts");
const DROPPED_PARAMETERS: HeaderName = HeaderName::from_static("x-drover-dropped-parameters");
const TRUNCATED: HeaderName = HeaderName::from_static("x-drover-truncated");

/// One request. Dropped before it was finished, its caller hung up, which is recorded.
pub struct Run {
    /// Its id.
    pub id: RunId,
    recorder: Arc<Recorder>,
    began: Instant,
    attempt_began: Instant,
    /// What its tokens cost, where that is known.
    price: Option<Price>,
    /// Whether nobody asks money for them.
    is_free: bool,
    /// How long the attempt took to the first piece of its answer.
    first_piece: Duration,
    /// What is known so far; nothing once it is finished.
    record: Option<Box<RunRecord>>,
    /// Its spans.
    pub trace: Trace,
    task: Option<Task>,
    /// Where its end counts, once it is known what shall answer.
    meters: Option<Arc<ModelMeters>>,
    /// What its caller's limits know of it, to its end.
    visit: Visit,
    /// How many pieces of its answer there were.
    pieces: u64,
    /// What tells the model of the worker that asks from all others, and what the caller takes it for.
    fingerprint: Option<String>,
    held: Option<String>,
}

impl Run {
    /// A request that just came in to this path, for the names of this namespace.
    pub fn start(recorder: &Arc<Recorder>, path: &'static str, namespace: &str, trace: Trace) -> Self {
        let (began, started_at) = (Instant::now(), Timestamp::now());
        let id = RunId::new(started_at, rand::random());
        let record = RunRecord {
            id,
            started_at,
            namespace: namespace.into(),
            caller: None,
            path: Cow::Borrowed(path),
            requested: "".into(),
            resolved: None,
            parameters: BTreeMap::new(),
            dropped_parameters: Vec::new(),
            keep_alive: None,
            system_prompt: None,
            tools: Vec::new(),
            has_format: false,
            stream: false,
            outcome: Outcome::Cancelled,
            status: 0,
            error: None,
            finish_reason: None,
            truncated: false,
            tokens: Tokens::default(),
            cost: None,
            timings: Timings::default(),
            attempts: Vec::new(),
            capture: None,
            replay_of: None,
            feedback: None,
            session: None,
            trace_id: trace.id().map(Into::into),
        };
        let (recorder, record) = (recorder.clone(), Some(Box::new(record)));
        Self {
            id,
            recorder,
            began,
            attempt_began: began,
            first_piece: Duration::ZERO,
            price: None,
            is_free: false,
            record,
            trace,
            task: None,
            meters: None,
            visit: Visit::default(),
            pieces: 0,
            fingerprint: None,
            held: None,
        }
    }

    /// Notes the fingerprint that the caller's session began with.
    pub fn holds(&mut self, fingerprint: Option<String>) {
        self.held = fingerprint;
    }

    /// Changes what is known.
    pub fn note(&mut self, change: impl FnOnce(&mut RunRecord)) {
        if let Some(record) = &mut self.record {
            change(record);
        }
    }

    /// Notes whose it is.
    pub fn called_by(&mut self, visit: Visit) {
        self.note(|record| record.caller = visit.caller().cloned());
        self.visit = visit;
    }

    /// Notes what is asked for, and keeps the request where that is wanted.
    pub fn asked(&mut self, ask: &Ask, body: &Bytes) {
        self.task = Some(ask.task);
        self.note(|record| ask.describe(record));
        if self.recorder.captures() {
            let request = (body.len() <= LONGEST_CAPTURE).then(|| String::from_utf8_lossy(body).into_owned());
            self.note(|record| record.capture = Some(Capture { request, answer: Some(String::new()) }));
        }
    }

    /// Counts a piece of the answer, and keeps it where that is wanted.
    pub fn keep_answer(&mut self, piece: &[u8]) {
        self.pieces += 1;
        let Some(Capture { answer, .. }) = self.record.as_mut().and_then(|record| record.capture.as_mut()) else {
            return;
        };
        match answer {
            Some(answer) if answer.len() + piece.len() <= LONGEST_CAPTURE => *answer += &String::from_utf8_lossy(piece),
            _ => *answer = None,
        }
    }

    /// Notes what shall answer, and why.
    pub fn aim(&mut self, leg: &Leg<'_>) {
        let target = leg.target;
        self.fingerprint = leg.fingerprint();
        self.is_free = target.offer.is_none();
        self.price = target.offer.as_ref().and_then(|offer| offer.price);
        self.note(|record| {
            record.session = leg.account.as_ref().and_then(|account| account.session).map(Session);
            record.resolved = Some(Resolved {
                model: target.tag.as_str().into(),
                digest: target.digest.as_str().into(),
                version: target.version.as_deref().map(Into::into),
                deployment: leg.deployment.map(Into::into),
                node: None,
                reason: leg.reason().into(),
            });
        });
    }

    /// Has its end counted there.
    pub fn measure(&mut self, meters: Arc<ModelMeters>) {
        self.meters = Some(meters);
    }

    /// Notes how long it waited for a place.
    pub fn waited(&mut self, waited: Duration) {
        self.note(|record| record.timings.queue_ms += milliseconds(waited));
    }

    /// Notes that a node is asked.
    pub fn attempt(&mut self, holder: &Holder) {
        self.attempt_began = Instant::now();
        self.note(|record| {
            let Some(resolved) = &mut record.resolved else { return };
            let node: Arc<str> = holder.node.name.as_str().into();
            resolved.node = Some(node.clone());
            if *resolved.digest != *holder.digest {
                resolved.digest = holder.digest.as_str().into();
            }
            let target = resolved.version.clone().unwrap_or_else(|| resolved.model.clone());
            record.attempts.push(Attempt { node, target, outcome: Outcome::Cancelled, reason: None, ms: 0.0 });
        });
        if let Some(attempt) = self.record.as_ref().and_then(|record| record.attempts.last()) {
            self.trace.attempt(&attempt.target, &attempt.node);
        }
    }

    /// Notes what became of that.
    pub fn attempted(&mut self, outcome: Outcome, reason: Option<String>) {
        let ms = milliseconds(self.attempt_began.elapsed());
        let Some(attempt) = self.record.as_mut().and_then(|record| record.attempts.last_mut()) else { return };
        (attempt.outcome, attempt.reason) = (outcome, reason);
        attempt.ms = if attempt.ms > 0.0 { attempt.ms } else { ms };
        // One that began to answer goes on until the request ends.
        if outcome != Outcome::Answered {
            self.trace.attempted(attempt);
        }
    }

    /// Notes that the first piece of the answer is there.
    pub fn answers(&mut self) {
        let ms = milliseconds(self.began.elapsed());
        self.first_piece = self.attempt_began.elapsed();
        self.attempted(Outcome::Answered, None);
        self.note(|record| record.timings.first_token_ms = Some(ms));
    }

    /// What counts of the attempt that was answered, and ended so.
    pub fn answered(&self, ending: &Ending, is_stream: bool, keeps_schema: Option<bool>) -> Answered {
        // Loading is the node's business: which version it happened to have loaded says nothing of a version.
        let load = Duration::from_nanos(ending.load_duration.unwrap_or_default());
        let tokens = u32::try_from(ending.eval_count).unwrap_or(u32::MAX);
        let token_time = ending.eval_duration.and_then(|spent| Duration::from_nanos(spent).checked_div(tokens));
        let priced = self.price.map(|price| price.of(ending.prompt_eval_count, ending.eval_count).amount);
        Answered {
            keeps_schema,
            cost: priced.or(self.is_free.then_some(0.0)),
            tokens: ending.prompt_eval_count + ending.eval_count,
            latency: self.attempt_began.elapsed().saturating_sub(load),
            first_token: is_stream.then(|| self.first_piece.saturating_sub(load)),
            token_time,
        }
    }

    /// Notes what the node says at the end.
    pub fn ended(&mut self, ending: Ending) {
        let ms = |nanoseconds: Option<u64>| nanoseconds.map(|ns| milliseconds(Duration::from_nanos(ns)));
        let price = self.price;
        self.note(|record| {
            record.cost = price.map(|price| price.of(ending.prompt_eval_count, ending.eval_count));
            record.tokens = Tokens { prompt: ending.prompt_eval_count, completion: ending.eval_count };
            record.timings.load_ms = ms(ending.load_duration);
            record.timings.prompt_ms = ms(ending.prompt_eval_duration);
            record.timings.completion_ms = ms(ending.eval_duration);
            record.finish_reason = ending.done_reason;
        });
    }

    /// Ends the run, and returns when its record is committed. A request that names no model leaves none.
    ///
    /// # Errors
    /// What the caller is told instead of the end of its answer.
    pub async fn finish(&mut self, outcome: Outcome, status: u16, error: Option<String>) -> Result<(), Failure> {
        self.note(|record| (record.outcome, record.status, record.error) = (outcome, status, error));
        match self.end() {
            Some(record) => self.recorder.commit(*record).await,
            None => Ok(()),
        }
    }

    /// Nothing more is known; the record, if it is to be kept.
    fn end(&mut self) -> Option<Box<RunRecord>> {
        let mut record = self.record.take()?;
        record.timings.total_ms = milliseconds(self.began.elapsed());
        self.meters.iter().for_each(|meters| meters.ended(&record));
        self.trace.end(self.task, &record);
        let record = Some(record).filter(|record| !record.requested.is_empty())?;
        self.spend(&record.tokens);
        Some(record)
    }

    /// Has the caller's limits count what it cost. Of an answer that didn't end nobody says that: a piece is a token at
    /// least, so that whoever hangs up early doesn't get it for nothing.
    fn spend(&self, tokens: &Tokens) {
        self.visit.spend((tokens.prompt + tokens.completion).max(self.pieces));
    }

    /// Writes what is known into the headers of an answer.
    pub fn stamp(&self, headers: &mut HeaderMap) {
        headers.reserve(HEADERS);
        let mut put = |name: HeaderName, text: &str| {
            if let Some(value) = header(text) {
                headers.insert(name, value);
            }
        };
        put(RUN_ID, str::from_utf8(&self.id.digits()).unwrap_or_default());
        if let Some(fingerprint) = &self.fingerprint {
            put(FINGERPRINT, fingerprint);
            let is_changed = self.held.as_ref().is_some_and(|held| held != fingerprint);
            put(FINGERPRINT_CHANGED, if is_changed { "true" } else { "" });
        }
        let Some(record) = &self.record else { return };
        if let Some(resolved) = &record.resolved {
            put(MODEL, &resolved.model);
            put(DIGEST, &resolved.digest);
            put(VERSION, resolved.version.as_deref().unwrap_or_default());
            put(NODE, resolved.node.as_deref().unwrap_or_default());
            put(REASON, &resolved.reason);
        }
        headers.insert(ATTEMPTS, HeaderValue::from(record.attempts.len()));
        if !record.dropped_parameters.is_empty() {
            let names = header(&record.dropped_parameters.join(", "));
            headers.extend(names.map(|names| (DROPPED_PARAMETERS, names)));
        }
        if record.truncated {
            headers.insert(TRUNCATED, HeaderValue::from_static("true"));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(record) = self.end() {
            self.recorder.commit_unattended(*record);
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// A header's value; what a header can't hold becomes a question mark.
pub fn header(text: &str) -> Option<HeaderValue> {
    let is_plain = |c: char| c == ' ' || c.is_ascii_graphic();
    // It checks that itself, but lets more through.
    match text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~')) {
        _ if text.is_empty() => None,
        true => HeaderValue::from_str(text).ok(),
        false => HeaderValue::try_from(text.replace(|c| !is_plain(c), "?")).ok(),
    }
}
