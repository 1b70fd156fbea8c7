//! `drover gateway`

use std::{fs, sync::Arc};

use tokio::net::TcpListener;
use tracing::info;

use crate::{
    cluster,
    gateway::{self, Gateway},
    health::FleetHealth,
    ollama::Ollama,
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
    let namespace = settings.namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.into());
    let limits = gateway::Settings {
        namespace: namespace.clone(),
        queue_limit: settings.queue_timeout,
        truncation: settings.truncation,
        ..gateway::Settings::default()
    };
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    info!(%address, namespace, "answering requests");
    let gateway = Gateway::new(target.table.clone(), ollama, limits);
    metrics.register(|registry| gateway.meters().register(registry));
    supervisor.service("gateway", gateway::serve(listener, gateway, stop));

    let client = cluster::connect().await?;
    let nodes = cluster::watch(&mut supervisor, &client, Some(&namespace));
    let pulls = cluster::watch(&mut supervisor, &client, Some(&namespace));
    fleet.keep_current(&mut supervisor, nodes.clone(), pulls, &metrics);
    feed::start(&mut supervisor, client, &namespace, nodes, target);
    supervisor.run().await.map_err(|error| error.to_string())
}
