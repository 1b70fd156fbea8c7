//! The data path: carries each request to a node that can answer it, and the answer back.
//!
//! A request loads one table, is resolved with it to one or more targets ([`resolve`], [`plan`]), asks one node after
//! the other until one answers ([`dispatch`]) and is written in the caller's wire format on its way back ([`voice`],
//! [`relay`]). Nothing here calls the Kubernetes API; nothing is retried after the first byte has gone out.

pub mod ask;
pub mod attempt;
pub mod balance;
pub mod client;
pub mod dispatch;
pub mod ending;
pub mod failure;
pub mod faults;
pub mod fields;
pub mod lines;
mod listing;
pub mod management;
pub mod meters;
pub mod openai;
pub mod plan;
pub mod recorder;
pub mod relay;
pub mod resolve;
mod routes;
pub mod run;
pub mod tally;
pub mod voice;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::{Router, serve::ListenerExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::{balance::Balance, meters::Meters, recorder::Recorder, tally::Tally};
use crate::{
    ports::{GatewayStats, Inference},
    routing_table::{RoutingTable, SharedTable},
};

/// Limits of one gateway.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace of callers that name none.
    pub namespace: String,
    /// How long a request may wait for a place on a node, over all its attempts.
    pub queue_limit: Duration,
    /// How long a node may take until the head of its answer; without a stream that is the whole answer's time.
    pub head_limit: Duration,
    /// How long a node may be silent within an answer.
    pub silence_limit: Duration,
    /// The longest request body, in bytes.
    pub body_limit: usize,
    /// Whether other machines may ask for run records.
    pub management_open: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: "default".into(),
            queue_limit: Duration::from_secs(60),
            head_limit: Duration::from_secs(300),
            silence_limit: Duration::from_secs(300),
            body_limit: 100 << 20,
            management_open: false,
        }
    }
}

/// One gateway: what it serves and what it remembers. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    table: SharedTable,
    /// The table that the memories below were last brought in line with.
    seen: ArcSwap<RoutingTable>,
    inference: Arc<dyn Inference>,
    settings: Settings,
    balance: Arc<Balance>,
    tally: Tally,
    meters: Meters,
    recorder: Arc<Recorder>,
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
        let (seen, balance, tally) = (ArcSwap::default(), Arc::default(), Tally::default());
        let (meters, recorder) = (Meters::default(), Arc::new(recorder));
        Self(Arc::new(Inner { table, seen, inference, settings, balance, tally, meters, recorder }))
    }

    /// What records its requests.
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.0.recorder
    }

    /// What it counts.
    pub fn meters(&self) -> &Meters {
        &self.0.meters
    }

    /// What it tells about itself.
    pub fn stats(&self) -> GatewayStats {
        GatewayStats { namespace: self.0.settings.namespace.clone(), deployments: self.0.tally.stats(&self.table()) }
    }

    /// The table as it is now, for one request to keep to its end.
    fn table(&self) -> Arc<RoutingTable> {
        let table = self.0.table.load_full();
        if !Arc::ptr_eq(&self.0.seen.load(), &table) {
            self.0.seen.store(table.clone());
            self.0.balance.keep(&table);
            self.0.tally.keep(&table);
        }
        table
    }

    fn settings(&self) -> &Settings {
        &self.0.settings
    }

    fn inference(&self) -> &dyn Inference {
        &*self.0.inference
    }

    fn balance(&self) -> &Arc<Balance> {
        &self.0.balance
    }

    fn tally(&self) -> &Tally {
        &self.0.tally
    }
}

/// Everything that a gateway answers.
pub fn router(gateway: Gateway) -> Router {
    routes::router(gateway)
}

/// Serves until `shutdown`; then takes no new connections, and returns when the requests under way are answered.
///
/// # Errors
/// Whatever the listener says.
pub async fn serve(listener: TcpListener, gateway: Gateway, shutdown: CancellationToken) -> io::Result<()> {
    let listener = listener.tap_io(|connection| {
        // Without this, small pieces of a stream wait for the caller's acknowledgement of the one before.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
    });
    let service = router(gateway).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(shutdown.cancelled_owned()).await
}
