//! `drover controller`

use std::sync::Arc;

use tokio::net::TcpListener;

use crate::{
    cluster,
    controller::{self, Options, Parts},
    gateway::client::GatewayClient,
    health::{self, FleetHealth},
    mirror::{self, client::MirrorClient},
    ollama::Ollama,
    ports::Mirror,
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
    let key = mirror::key(&settings)?;
    let mirror = settings.mirror_url.as_deref().map(|url| mirror_at(url, key.clone())).transpose()?;
    let gateways = Arc::new(GatewayClient::new(settings.gateways).map_err(|error| error.to_string())?);
    let options = Options {
        namespace: settings.namespace,
        probe_interval: settings.probe_interval,
        max_pulls: settings.max_pulls,
        mirror_advertise: settings.mirror_advertise.or(settings.mirror_url).unwrap_or_default(),
        mirror_key: key.map_or_else(|| rand::random::<[u8; 32]>().to_vec(), String::into_bytes),
    };
    let parts = Parts { client, ollama, gateways, mirror };
    let context = controller::start(&mut supervisor, parts, options, &metrics, readiness)
        .await
        .map_err(|error| format!("asking Kubernetes for the uid of namespace kube-system: {error}"))?;
    fleet.keep_current(&mut supervisor, context.nodes.clone(), context.pulls.clone(), &metrics);
    let looked = context.looked.subscribe();
    health::warn_at_start(&supervisor.jobs(), context.nodes.clone(), context.pulls.clone(), looked);
    supervisor.run().await.map_err(|error| error.to_string())
}

fn mirror_at(url: &str, key: Option<String>) -> Result<Arc<dyn Mirror>, String> {
    Ok(Arc::new(MirrorClient::new(url, key).map_err(|error| error.to_string())?))
}
