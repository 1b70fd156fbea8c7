//! The health port: `/livez`, `/readyz`, `/metrics` and what a command adds.

use std::{io, net::SocketAddr};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use super::Metrics;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether this process can do its work; shared, starts as no.
#[derive(Clone, Default)]
pub struct Readiness(watch::Sender<bool>);

impl Readiness {
    /// From now on, or no longer.
    pub fn set(&self, ready: bool) {
        self.0.send_replace(ready);
    }

    /// Whether it can.
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it can.
    pub async fn reached(&self) {
        // The sender is this value itself, so it can't be gone.
        let _ = self.0.subscribe().wait_for(|ready| *ready).await;
    }
}

fn answer(readiness: &[Readiness], finishing: &CancellationToken) -> (StatusCode, &'static str) {
    if finishing.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: finishing what is under way\n")
    } else if readiness.iter().all(Readiness::is_set) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: waiting for the first complete view of the objects\n")
    }
}

/// What the health port answers.
#[derive(Clone, Default)]
pub struct Health {
    /// For `/readyz`: all of them must be set.
    pub readiness: Vec<Readiness>,
    /// For `/metrics`.
    pub metrics: Metrics,
    /// Further paths.
    pub more: Router,
}

impl Health {
    /// Answers until `end`; from `finishing` on it says that this process is not ready.
    ///
    /// # Errors
    /// Whatever the listener says.
    pub async fn serve(
        self,
        listener: TcpListener,
        finishing: CancellationToken,
        end: CancellationToken,
    ) -> io::Result<()> {
        let Self { readiness, metrics, more } = self;
        let router = more
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(move || async move { answer(&readiness, &finishing) }))
            .route("/metrics", get(move || async move { ([(CONTENT_TYPE, OPEN_METRICS)], metrics.text()) }));
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, service).with_graceful_shutdown(end.cancelled_owned()).await
    }
}
