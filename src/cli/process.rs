//! What the commands that serve have in common.

use std::{fs, io, net::SocketAddr, path::Path};

use axum::Router;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::net::TcpListener;

use crate::{
    ollama::Ollama,
    settings::Settings,
    supervisor::Supervisor,
    telemetry::{Health, Metrics, Readiness},
};

/// A process that parts of Drover are started in.
pub struct Process {
    /// Owns every task.
    pub supervisor: Supervisor,
    /// What `/metrics` shows.
    pub metrics: Metrics,
}

impl Process {
    /// One that answers on the health port, also on `more` paths; it is ready once all of `readiness` is set.
    pub fn new(settings: &Settings, health: TcpListener, readiness: Vec<Readiness>, more: Router) -> Self {
        let mut supervisor = Supervisor::new(settings.drain_timeout);
        let metrics = Metrics::default();
        let answers = Health { readiness, metrics: metrics.clone(), more };
        let (finishing, end) = (supervisor.stop_token(), supervisor.end_token());
        supervisor.last_service("health", answers.serve(health, finishing, end));
        Self { supervisor, metrics }
    }

    /// Runs until a signal comes or a part ends, then lets everything finish.
    ///
    /// # Errors
    /// Which part ended by itself, or what didn't finish in time.
    pub async fn run(self) -> Result<(), String> {
        self.supervisor.run().await.map_err(|error| error.to_string())
    }
}

/// A client to nodes, which trusts what the settings say.
///
/// # Errors
/// When the certificates can't be read, or TLS can't be set up.
pub fn ollama(settings: &Settings) -> Result<Ollama, String> {
    let roots = match &settings.node_ca_file {
        Some(file) => read_roots(file).map_err(|error| format!("node-ca-file {}: {error}", file.display()))?,
        None => Vec::new(),
    };
    Ollama::trusting(roots).map_err(|error| error.to_string())
}

fn read_roots(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = fs::read(file).map_err(|error| error.to_string())?;
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let roots = roots.map_err(|error| error.to_string())?;
    if roots.is_empty() { Err("there is no certificate in it".into()) } else { Ok(roots) }
}

/// Listens.
///
/// # Errors
/// Why it can't, with the setting that says where.
pub async fn listen(setting: &str, address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| cannot_listen(setting, address, &error))
}

fn cannot_listen(setting: &str, address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "--{setting} {address}: another program listens there: choose another port, or 0 for any that is free"
        ),
        _ => format!("--{setting} {address}: {error}"),
    }
}
