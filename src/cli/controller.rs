//! `drover controller`

use std::sync::Arc;

use super::{
    audit,
    process::{Process, listen, ollama},
    provider_keys::KeyPlace,
};
use crate::{
    cluster::{self, Client},
    controller::{self, Context, Options, Parts},
    gateway::client::GatewayClient,
    health::{self, FleetHealth, WatchedFleet},
    mirror::{self, client::MirrorClient},
    ports::{AuditLog, Mirror, Queries},
    prometheus::Prometheus,
    providers::Providers,
    settings::Settings,
    telemetry::Readiness,
};

pub async fn run(settings: Settings) -> Result<(), String> {
    let health = listen("health-listen", settings.health_listen).await?;
    let readiness = Readiness::default();
    let fleet = FleetHealth::default();
    let audit = audit::open(&settings)?;
    let shown = audit::router(audit::Shown { log: audit.clone(), is_open: settings.management_open });
    let more = fleet.router().merge(shown);
    let mut process = Process::new(&settings, health, vec![readiness.clone()], more);
    let client = cluster::connect().await?;
    let keys = KeyPlace::of_controller(&settings, client.clone());
    start(&mut process, client, &settings, readiness, &fleet, Places { audit, ..Places::of(keys) }).await?;
    process.run().await
}

/// What a controller finds where.
pub struct Places {
    /// The keys of providers.
    pub keys: KeyPlace,
    /// The mirror, for nodes on this machine, if that is another address than it has for others.
    pub mirror_nearby: Option<String>,
    /// The audit, if one is kept.
    pub audit: Option<Arc<dyn AuditLog>>,
}

impl Places {
    /// Keys, and nothing else.
    pub fn of(keys: KeyPlace) -> Self {
        Self { keys, mirror_nearby: None, audit: None }
    }
}

/// Starts a controller, which also tells `fleet` how it is; `readiness` is set once it has read every object.
pub async fn start(
    process: &mut Process,
    client: Client,
    settings: &Settings,
    readiness: Readiness,
    fleet: &FleetHealth,
    places: Places,
) -> Result<Arc<Context>, String> {
    let Places { keys, mirror_nearby, audit } = places;
    let ollama = Arc::new(ollama(settings)?);
    let key = mirror::key(settings)?;
    let mirror = settings.mirror_url.as_deref().map(|url| mirror_at(url, key.clone())).transpose()?;
    let gateways = Arc::new(GatewayClient::new(settings.gateways.clone()).map_err(|error| error.to_string())?);
    let advertised = settings.mirror_advertise.clone().or_else(|| settings.mirror_url.clone());
    let options = Options {
        namespace: settings.namespace.clone(),
        probe_interval: settings.probe_interval,
        max_pulls: settings.max_pulls,
        mirror_advertise: advertised.unwrap_or_default(),
        mirror_nearby,
        mirror_key: key.map_or_else(|| rand::random::<[u8; 32]>().to_vec(), String::into_bytes),
    };
    let prometheus = settings.prometheus_url.as_deref().map(Prometheus::new).transpose()?;
    let queries = prometheus.map(|prometheus| Arc::new(prometheus) as Arc<dyn Queries>);
    let KeyPlace { keys: provider_keys, secrets } = keys;
    let provider_api = Arc::new(Providers::new(provider_keys.clone()).map_err(|error| error.to_string())?);
    let parts = Parts { client, ollama, gateways, queries, mirror, provider_api, provider_keys, secrets, audit };
    let Process { supervisor, metrics } = process;
    let context = controller::start(supervisor, parts, options, metrics, readiness)
        .await
        .map_err(|error| format!("asking Kubernetes for the uid of namespace kube-system: {error}"))?;
    let watched = WatchedFleet::of(&context.watches);
    fleet.keep_current(supervisor, watched.clone(), metrics);
    let looked = context.looked.subscribe();
    health::warn_at_start(&supervisor.jobs(), watched, looked);
    Ok(context)
}

fn mirror_at(url: &str, key: Option<String>) -> Result<Arc<dyn Mirror>, String> {
    Ok(Arc::new(MirrorClient::new(url, key).map_err(|error| error.to_string())?))
}
