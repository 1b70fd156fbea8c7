//! `drover controller`

use std::sync::Arc;

use tokio::net::TcpListener;

use crate::{
    cluster,
    controller::{self, Options},
    gateway::client::GatewayClient,
    health::{self, FleetHealth},
    ollama::Ollama,
    settings::Settings,
    supervisor::Supervisor,
    telemetry::{Health, Metrics, Readiness},
};

pub async fn run(settings: Settings) -> Result<(), String> {
    let mut supervisor = Supervisor::new(settings.drain_timeout);
    let readiness = Readiness::default();
    let health = TcpListener::bind(settings.health_listen)
        .await
        .map_err(|error| format!("health-listen {}: {error}", settings.health_listen))?;
    let (fleet, metrics) = (FleetHealth::default(), Metrics::default());
    let answers = Health { readiness: readiness.clone(), metrics: metrics.clone(), more: fleet.router() };
    supervisor.service("health", answers.serve(health, supervisor.stop_token()));
    let client = cluster::connect().await?;
    let ollama = Arc::new(Ollama::new().map_err(|error| error.to_string())?);
    let gateways = Arc::new(GatewayClient::new(settings.gateways).map_err(|error| error.to_string())?);
    let options = Options { namespace: settings.namespace, probe_interval: settings.probe_interval };
    let context = controller::start(&mut supervisor, client, ollama, gateways, options, readiness, &metrics)
        .await
        .map_err(|error| format!("asking Kubernetes for the uid of namespace kube-system: {error}"))?;
    fleet.keep_current(&mut supervisor, context.nodes.clone(), context.pulls.clone(), &metrics);
    let looked = context.looked.subscribe();
    health::warn_at_start(&supervisor.jobs(), context.nodes.clone(), context.pulls.clone(), looked);
    supervisor.run().await.map_err(|error| error.to_string())
}
