//! The data path: carries each request to a node that can answer it, and the answer back.
//!
//! A request loads one table, is resolved with it to one or more targets ([`resolve`], [`plan`]), asks one node after
//! the other until one answers ([`dispatch`]) and is written in the caller's wire format on its way back ([`voice`],
//! [`relay`]). Nothing here calls the Kubernetes API; nothing is retried after the first byte has gone out.

pub mod anthropic;
pub mod api;
pub mod ask;
pub mod attempt;
pub mod balance;
mod callable;
pub mod callers;
pub mod client;
mod context;
pub mod counter;
pub mod dispatch;
pub mod ending;
pub mod explain;
pub mod failure;
pub mod faults;
pub mod fields;
mod fleet;
pub mod format;
pub mod lines;
mod listing;
pub mod management;
pub mod meters;
mod native;
pub mod openai;
mod operations;
pub mod parameters;
pub mod plan;
mod preference;
mod prompt;
pub mod recorder;
pub mod relay;
pub mod resolve;
mod routes;
pub mod run;
pub mod said;
pub mod schema;
mod server;
pub mod serving;
mod session;
mod shadow;
pub mod spans;
mod sse;
pub mod tally;
pub mod task;
mod turn;
pub mod voice;
mod walk;
mod wish;

use std::{
    io,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::Router;
use jiff::Timestamp;
use opentelemetry_sdk::trace::SdkTracer;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::{
    balance::Balance,
    callers::KnownKeys,
    meters::{Gauges, Meters},
    preference::Preferences,
    recorder::Recorder,
    serving::Serving,
    shadow::Shadows,
    tally::Tally,
};
use crate::{
    domain::{caller::RequireKey, params::Truncation, run_id::RunId},
    ports::{GatewayStats, Inference, ModelOperations},
    routing_table::{Freshness, RoutingTable, SharedTable},
};

/// Limits of one gateway.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace of callers that name none.
    pub namespace: String,
    /// How long a request may wait for a place on a node, over all its attempts.
    pub queue_limit: Duration,
    /// How many requests may wait for places on the nodes of one model.
    pub queue_length: usize,
    /// How long a node may take until the head of its answer; without a stream that is the whole answer's time.
    pub head_limit: Duration,
    /// How long a node may be silent within an answer.
    pub silence_limit: Duration,
    /// How long the head of a request may take, and how long a kept-alive connection may wait for the next one.
    pub idle_limit: Duration,
    /// The longest request body, in bytes.
    pub body_limit: usize,
    /// What becomes of a prompt that is longer than the context window, unless the request says so itself.
    pub truncation: Truncation,
    /// Whether other machines may ask for run records.
    pub management_open: bool,
    /// What makes spans of requests, if somebody wants them.
    pub tracer: Option<SdkTracer>,
    /// Who is asked for a key.
    pub require_key: RequireKey,
    /// How long the body of a request may take.
    pub body_within: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: "default".into(),
            queue_limit: Duration::from_secs(60),
            queue_length: 1000,
            head_limit: Duration::from_secs(300),
            silence_limit: Duration::from_secs(300),
            idle_limit: Duration::from_secs(75),
            body_limit: 100 << 20,
            truncation: Truncation::default(),
            management_open: false,
            tracer: None,
            require_key: RequireKey::default(),
            body_within: Duration::from_secs(120),
        }
    }
}

/// One gateway: what it serves and what it remembers. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    /// Names this gateway among all that ever ran.
    instance: String,
    table: SharedTable,
    /// The table that the memories below were last brought in line with.
    serving: ArcSwap<Serving>,
    /// Held while they are.
    renewal: Mutex<()>,
    inference: Arc<dyn Inference>,
    settings: Settings,
    balance: Arc<Balance>,
    tally: Tally,
    meters: Meters,
    recorder: Arc<Recorder>,
    preferences: Preferences,
    shadows: Shadows,
    /// Unset where callers may not change which models there are.
    operations: OnceLock<Arc<dyn ModelOperations>>,
}

impl Gateway {
    /// A gateway that serves whatever `table` holds at the moment, through `inference`.
    pub fn new(table: SharedTable, inference: Arc<dyn Inference>, settings: Settings) -> Self {
        Self::recording(table, inference, settings, Recorder::default())
    }

    /// The same, which has `recorder` record its requests.
    pub fn recording(
        table: SharedTable,
        inference: Arc<dyn Inference>,
        settings: Settings,
        recorder: Recorder,
    ) -> Self {
        let balance = Arc::new(Balance::new(settings.queue_length));
        Self(Arc::new(Inner {
            instance: RunId::new(Timestamp::now(), rand::random()).to_string(),
            table,
            serving: ArcSwap::default(),
            renewal: Mutex::default(),
            inference,
            settings,
            balance,
            tally: Tally::default(),
            meters: Meters::default(),
            recorder: Arc::new(recorder),
            preferences: Preferences::default(),
            shadows: Shadows::default(),
            operations: OnceLock::new(),
        }))
    }

    /// Has callers pull and remove models through `operations` from now on; what was named first stays.
    pub fn allow_operations(&self, operations: Arc<dyn ModelOperations>) {
        let _ = self.0.operations.set(operations);
    }

    /// What records its requests.
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.0.recorder
    }

    /// What it counts.
    pub fn meters(&self) -> &Meters {
        &self.0.meters
    }

    /// Lets `/metrics` show what it counts, and how old its table is; what others have agreed on names for goes to
    /// `conventions`.
    pub fn register(&self, conventions: &mut Registry, own: &mut Registry, freshness: Freshness) {
        self.0.meters.register(conventions, own);
        self.0.recorder.register(own);
        self.0.shadows.register(own);
        own.register_collector(Box::new(Gauges { balance: self.0.balance.clone(), freshness }));
    }

    /// What it tells about itself: of all deployments, or of one (namespace and name) with the times of its answers.
    pub fn stats(&self, of: Option<[&str; 2]>) -> GatewayStats {
        let serving = self.serving();
        GatewayStats {
            instance: self.0.instance.clone(),
            namespace: self.0.settings.namespace.clone(),
            deployments: self.0.tally.stats(serving.table(), of),
            keys: serving.keys().stats(),
            choices: self.preferences().stats(serving.table().namespace(&self.0.settings.namespace)),
        }
    }

    /// The table as it is now.
    fn table(&self) -> Arc<RoutingTable> {
        self.serving().table().clone()
    }

    /// The table as it is now, for one request to keep to its end.
    fn serving(&self) -> Arc<Serving> {
        let serving = self.0.serving.load_full();
        if Arc::ptr_eq(serving.table(), &self.0.table.load()) {
            return serving;
        }
        let _renewal = self.0.renewal.lock().unwrap_or_else(PoisonError::into_inner);
        let (serving, table) = (self.0.serving.load_full(), self.0.table.load_full());
        if Arc::ptr_eq(serving.table(), &table) {
            return serving;
        }
        let keys = KnownKeys::new(&table.namespace(&self.0.settings.namespace).keys, serving.keys());
        let serving = Arc::new(Serving::new(table, keys));
        self.0.balance.keep(serving.table());
        self.0.tally.keep(serving.table());
        self.0.meters.models().keep(serving.table());
        self.0.serving.store(serving.clone());
        serving
    }

    fn settings(&self) -> &Settings {
        &self.0.settings
    }

    fn inference(&self) -> &dyn Inference {
        &*self.0.inference
    }

    fn operations(&self) -> Option<&Arc<dyn ModelOperations>> {
        self.0.operations.get()
    }

    fn balance(&self) -> &Arc<Balance> {
        &self.0.balance
    }

    fn tracer(&self) -> Option<&SdkTracer> {
        self.0.settings.tracer.as_ref()
    }

    fn preferences(&self) -> &Preferences {
        &self.0.preferences
    }

    fn tally(&self) -> &Tally {
        &self.0.tally
    }

    fn shadows(&self) -> &Shadows {
        &self.0.shadows
    }
}

/// Everything that a gateway answers.
pub fn router(gateway: Gateway) -> Router {
    routes::router(gateway)
}

/// Serves until `shutdown`; then takes no new connections, and returns when the requests under way are answered.
///
/// # Errors
/// None at present: what is wrong with one connection concerns no other.
pub async fn serve(listener: TcpListener, gateway: Gateway, shutdown: CancellationToken) -> io::Result<()> {
    let served = server::serve(listener, gateway.clone(), shutdown.clone());
    let (served, ()) = tokio::join!(served, gateway.shadows().end_with(shutdown));
    served
}
