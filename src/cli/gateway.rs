//! `drover gateway`

use std::{fs, sync::Arc};

use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::{
    cluster,
    gateway::{self, Gateway, recorder::Recorder},
    health::FleetHealth,
    ollama::Ollama,
    records::{self, Place},
    routing_table::feed,
    settings::Settings,
    supervisor::Supervisor,
    telemetry::{Health, Metrics, Readiness},
};

const TABLE_FILE: &str = "routing-table.json";
const DEFAULT_NAMESPACE: &str = "default";

pub async fn run(settings: Settings) -> Result<(), String> {
    let mut supervisor = Supervisor::new(settings.drain_timeout);
    let stop = supervisor.stop_token();
    let listen = async |name: &str, address| {
        TcpListener::bind(address).await.map_err(|error| format!("{name} {address}: {error}"))
    };
    let health = listen("health-listen", settings.health_listen).await?;
    let listener = listen("gateway-listen", settings.gateway_listen).await?;
    let file = match &settings.data_dir {
        Some(dir) => {
            fs::create_dir_all(dir).map_err(|error| format!("data-dir {}: {error}", dir.display()))?;
            Some(dir.join(TABLE_FILE))
        }
        None => None,
    };
    let target = feed::Target { table: Arc::default(), file, readiness: Readiness::default() };
    let (fleet, metrics) = (FleetHealth::new(target.readiness.clone()), Metrics::default());
    let answers = Health { readiness: target.readiness.clone(), metrics: metrics.clone(), more: fleet.router() };
    supervisor.service("health", answers.serve(health, stop.clone()));
    feed::restore(&target);

    let ollama = Arc::new(Ollama::new().map_err(|error| error.to_string())?);
    let namespace = settings.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.into());
    let limits = gateway::Settings {
        namespace: namespace.clone(),
        queue_limit: settings.queue_timeout,
        truncation: settings.truncation,
        management_open: settings.management_open,
        ..gateway::Settings::default()
    };
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    info!(%address, namespace, "answering requests");
    let recorder = recorder(&mut supervisor, &settings)?;
    metrics.register(|registry| recorder.register(registry));
    let gateway = Gateway::recording(target.table.clone(), ollama, limits, recorder);
    metrics.register(|registry| gateway.meters().register(registry));
    supervisor.service("gateway", gateway::serve(listener, gateway, stop));

    let client = cluster::connect().await?;
    let nodes = cluster::watch(&mut supervisor, &client, Some(&namespace));
    let pulls = cluster::watch(&mut supervisor, &client, Some(&namespace));
    fleet.keep_current(&mut supervisor, nodes.clone(), pulls.clone(), &metrics);
    feed::start(&mut supervisor, client, &namespace, (nodes, pulls), target);
    supervisor.run().await.map_err(|error| error.to_string())
}

/// What records the requests, as the settings say; the work behind it is the supervisor's.
fn recorder(supervisor: &mut Supervisor, settings: &Settings) -> Result<Recorder, String> {
    let place = match (&settings.records, &settings.data_dir) {
        (Some(url), _) => Place::Postgres(url.clone()),
        (None, Some(dir)) => Place::Folder(dir.clone()),
        (None, None) => {
            warn!("no run records: neither data-dir nor records is set");
            return Ok(Recorder::default());
        }
    };
    let (sync, retention) = (settings.records_sync, settings.records_retention);
    let (records, keeper) = records::open(records::Settings { place, sync, retention })?;
    supervisor.service("records", keeper);
    Ok(Recorder::new(records, settings.records_when_down, settings.records_capture))
}
