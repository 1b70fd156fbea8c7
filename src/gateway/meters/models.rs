//! What requests cost, by model, under the names that OpenTelemetry's conventions for generative AI have for it.
//!
//! A model's name comes from the table, never from a caller, so there are no more series than there are models.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{
    domain::{
        provider::provider_of,
        run_record::{Outcome, Tokens},
    },
    gateway::task::Task,
    ports::RunRecord,
    routing_table::RoutingTable,
};

/// The bounds that the conventions advise, in seconds and tokens.
const REQUEST_SECONDS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const FIRST_TOKEN_SECONDS: [f64; 16] =
    [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const TOKEN_SECONDS: [f64; 13] = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// So many models that the table has no longer are remembered: a node that comes back finds its models' series.
const SPARE: usize = 100;
/// How much the latest answer counts in a model's latency.
const LATEST: f64 = 0.2;

/// A model as its series are told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByModel {
    /// `chat`, `text_completion` or `embeddings`.
    pub gen_ai_operation_name: &'static str,
    /// Whose server answers.
    pub gen_ai_provider_name: String,
    /// The deployment, or the tag, whichever was asked for.
    pub gen_ai_request_model: String,
    /// The tag that answers.
    pub gen_ai_response_model: String,
    /// Its version; nothing for a plain tag.
    pub drover_version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByError {
    #[prometheus(flatten)]
    model: ByModel,
    /// Nothing for whole answers.
    error_type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByToken {
    #[prometheus(flatten)]
    model: ByModel,
    gen_ai_token_type: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The series of all models.
#[derive(Debug)]
pub struct Models {
    known: Mutex<HashMap<ByModel, Arc<AtomicU64>>>,
    requests: Histograms<ByError>,
    first_tokens: Histograms<ByModel>,
    per_token: Histograms<ByModel>,
    tokens: Histograms<ByToken>,
    cut: Family<ByModel, Counter>,
    schema_failures: Family<ByModel, Counter>,
}

/// The series of one model, found once, so that a request looks nothing up.
#[derive(Debug)]
pub struct ModelMeters {
    model: ByModel,
    families: Histograms<ByError>,
    /// By outcome: most never occur.
    requests: [OnceLock<Histogram>; Outcome::ALL.len()],
    first_token: Histogram,
    per_token: Histogram,
    input: Histogram,
    output: Histogram,
    cut: Counter,
    schema_failures: Counter,
    /// How long answers took of late, in milliseconds as bits of a number; 0: nobody knows.
    latency: Arc<AtomicU64>,
}

impl Default for Models {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            requests: Histograms::new_with_constructor(|| Histogram::new(REQUEST_SECONDS)),
            first_tokens: Histograms::new_with_constructor(|| Histogram::new(FIRST_TOKEN_SECONDS)),
            per_token: Histograms::new_with_constructor(|| Histogram::new(TOKEN_SECONDS)),
            tokens: Histograms::new_with_constructor(|| Histogram::new(TOKENS)),
            cut: Family::default(),
            schema_failures: Family::default(),
        }
    }
}

impl ByModel {
    /// For answers of `tag` (in this version) to what was asked of `requested`.
    pub fn new(task: Task, requested: &str, tag: &str, version: Option<&str>) -> Self {
        Self {
            gen_ai_operation_name: task.operation(),
            gen_ai_provider_name: provider_of(tag).into(),
            gen_ai_request_model: requested.into(),
            gen_ai_response_model: tag.into(),
            drover_version: version.unwrap_or_default().into(),
        }
    }
}

impl Models {
    /// Lets `/metrics` show them, under the conventions' own names and, what those don't have, under ours.
    pub fn register(&self, conventions: &mut Registry, own: &mut Registry) {
        let seconds = Unit::Seconds;
        let help = "Time from a request to the end of its answer";
        conventions.register_with_unit("gen_ai_server_request_duration", help, seconds.clone(), self.requests.clone());
        let help = "Time from a request to the first piece of its streamed answer";
        let name = "gen_ai_server_time_to_first_token";
        conventions.register_with_unit(name, help, seconds.clone(), self.first_tokens.clone());
        let help = "Time that the model took for each token of an answer";
        conventions.register_with_unit("gen_ai_server_time_per_output_token", help, seconds, self.per_token.clone());
        let help = "Tokens that a request had the model read and write";
        conventions.register("gen_ai_client_token_usage", help, self.tokens.clone());
        own.register("gateway_cut_prompts", "Prompts that were cut to the context window", self.cut.clone());
        let help = "Answers that did not keep to the schema of their request";
        own.register("gateway_schema_failures", help, self.schema_failures.clone());
    }

    /// The series of a model.
    pub fn of(&self, model: ByModel) -> Arc<ModelMeters> {
        let latency = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.entry(model.clone()).or_default().clone()
        };
        let token = |kind| self.tokens.get_or_create_owned(&ByToken { model: model.clone(), gen_ai_token_type: kind });
        Arc::new(ModelMeters {
            latency,
            families: self.requests.clone(),
            requests: Default::default(),
            first_token: self.first_tokens.get_or_create_owned(&model),
            per_token: self.per_token.get_or_create_owned(&model),
            input: token("input"),
            output: token("output"),
            cut: self.cut.get_or_create_owned(&model),
            schema_failures: self.schema_failures.get_or_create_owned(&model),
            model,
        })
    }

    /// How long answers of a model took of late, in milliseconds, without waiting and loading; `None`: nobody asked it yet.
    pub fn latency(&self, model: &ByModel) -> Option<f64> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let latency = f64::from_bits(known.get(model)?.load(Ordering::Relaxed));
        (latency > 0.0).then_some(latency)
    }

    /// Forgets models that the table no longer has, when there are too many of them.
    pub fn keep(&self, table: &RoutingTable) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let namespaces = table.namespaces.values();
        let named: HashSet<&str> = namespaces
            .flat_map(|namespace| {
                let tags = namespace.targets().map(|target| target.tag.as_str());
                namespace.deployments.keys().map(String::as_str).chain(tags)
            })
            .collect();
        let is_there = |model: &ByModel| named.contains(model.gen_ai_request_model.as_str());
        if known.keys().filter(|model| !is_there(model)).count() <= SPARE {
            return;
        }
        known.retain(|model, _| {
            let stays = is_there(model);
            if !stays {
                self.forget(model);
            }
            stays
        });
    }

    fn forget(&self, model: &ByModel) {
        for outcome in Outcome::ALL {
            self.requests.remove(&ByError { model: model.clone(), error_type: error_type(outcome) });
        }
        for kind in ["input", "output"] {
            self.tokens.remove(&ByToken { model: model.clone(), gen_ai_token_type: kind });
        }
        self.first_tokens.remove(model);
        self.per_token.remove(model);
        self.cut.remove(model);
        self.schema_failures.remove(model);
    }
}

impl ModelMeters {
    /// Counts a request that ended.
    pub fn ended(&self, record: &RunRecord) {
        let seconds = |milliseconds: f64| milliseconds / 1000.0;
        let outcome = record.outcome;
        self.requests(outcome).observe(seconds(record.timings.total_ms));
        self.cut.inc_by(record.truncated.into());
        self.schema_failures.inc_by((outcome == Outcome::SchemaFailure).into());
        let Tokens { prompt, completion } = record.tokens;
        if prompt > 0 {
            self.input.observe(prompt as f64);
        }
        if completion > 0 {
            self.output.observe(completion as f64);
        }
        if !matches!(outcome, Outcome::Answered | Outcome::SchemaFailure) {
            return;
        }
        let timings = &record.timings;
        self.took(timings.total_ms - timings.queue_ms - timings.load_ms.unwrap_or_default());
        if let Some(first) = record.timings.first_token_ms.filter(|_| record.stream) {
            self.first_token.observe(seconds(first));
        }
        if let Some(writing) = record.timings.completion_ms.filter(|_| completion > 0) {
            self.per_token.observe(seconds(writing) / completion as f64);
        }
    }

    /// Notes how long an answer took: the more of them, the less each one counts.
    fn took(&self, milliseconds: f64) {
        let earlier = f64::from_bits(self.latency.load(Ordering::Relaxed));
        let now = milliseconds.max(f64::MIN_POSITIVE);
        let latency = if earlier > 0.0 { earlier + LATEST * (now - earlier) } else { now };
        // Of two that end at the same moment, one may get lost: it is a measure, not a count.
        self.latency.store(latency.to_bits(), Ordering::Relaxed);
    }

    fn requests(&self, outcome: Outcome) -> &Histogram {
        self.requests[outcome as usize].get_or_init(|| {
            self.families.get_or_create_owned(&ByError { model: self.model.clone(), error_type: error_type(outcome) })
        })
    }
}

fn error_type(outcome: Outcome) -> &'static str {
    if outcome == Outcome::Answered { "" } else { outcome.name() }
}
