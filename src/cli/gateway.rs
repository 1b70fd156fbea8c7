//! `drover gateway`

use std::{fs, sync::Arc};

use tokio::net::TcpListener;
use tracing::{info, warn};

use super::{
    process::{Process, listen, ollama},
    provider_keys::KeyPlace,
};
use crate::{
    cluster::{self, Operations, Watches},
    gateway::{self, Gateway, recorder::Recorder},
    health::{FleetHealth, WatchedFleet},
    ports::ProviderKeys,
    providers::{NodesAndProviders, Providers},
    records::{self, Place},
    routing_table::{
        Freshness,
        feed::{self, Target},
    },
    settings::Settings,
    supervisor::Supervisor,
    telemetry::{Readiness, Traces},
};

const TABLE_FILE: &str = "routing-table.json";
const DEFAULT_NAMESPACE: &str = "default";
/// What collectors know it by.
const SERVICE: &str = "drover-gateway";

pub async fn run(settings: Settings) -> Result<(), String> {
    let health = listen("health-listen", settings.health_listen).await?;
    let listener = listen("gateway-listen", settings.gateway_listen).await?;
    let readiness = Readiness::default();
    let fleet = FleetHealth::new(readiness.clone());
    let mut process = Process::new(&settings, health, vec![readiness.clone()], fleet.router());

    info!(version = env!("CARGO_PKG_VERSION"), "the gateway starts");
    // Makes no connection yet: callers are answered also while the API is away.
    let client = cluster::connect().await?;
    let namespace = namespace(&settings);
    let Process { supervisor, metrics } = &mut process;
    let watches = Watches::start(supervisor, &client, Some(&namespace));
    fleet.keep_current(supervisor, WatchedFleet::of(&watches), metrics);
    let is_allowed = settings.model_operations.unwrap_or(false);
    let fleet = (watches.nodes.clone(), watches.pulls.clone());
    let operations = is_allowed.then(|| Operations::new(client.clone(), &namespace, fleet, supervisor.stop_token()));
    let keys = KeyPlace::of_gateway(&settings).keys;
    let target = start(&mut process, listener, &settings, readiness, keys, operations)?;
    feed::start(&mut process.supervisor, client, &namespace, watches, target);
    process.run().await
}

/// The namespace of callers.
pub fn namespace(settings: &Settings) -> String {
    settings.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.into())
}

/// Answers requests, from the table that was kept before until another one goes to the target; with `operations`, callers
/// may pull and remove models.
pub fn start(
    process: &mut Process,
    listener: TcpListener,
    settings: &Settings,
    readiness: Readiness,
    keys: Arc<dyn ProviderKeys>,
    operations: Option<Operations>,
) -> Result<Target, String> {
    let file = match &settings.data_dir {
        Some(dir) => {
            fs::create_dir_all(dir).map_err(|error| format!("data-dir {}: {error}", dir.display()))?;
            Some(dir.join(TABLE_FILE))
        }
        None => None,
    };
    let canary_lease = settings.canary_lease;
    let target = Target { table: Arc::default(), file, freshness: Freshness::default(), readiness, canary_lease };
    feed::restore(&target);
    let nodes = Arc::new(ollama(settings)?);
    let providers = Providers::new(keys).map_err(|error| error.to_string())?;
    let inference = Arc::new(NodesAndProviders { nodes, providers });
    let namespace = namespace(settings);
    let traces = Traces::start(&mut process.supervisor, settings.otlp_endpoint.as_deref(), SERVICE)?;
    let limits = gateway::Settings {
        namespace: namespace.clone(),
        queue_limit: settings.queue_timeout,
        queue_length: settings.queue_length,
        truncation: settings.truncation,
        management_open: settings.management_open,
        tracer: traces.tracer(),
        require_key: settings.require_key,
        body_within: settings.body_timeout,
        ..gateway::Settings::default()
    };
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    info!(%address, namespace, "answering requests");
    let recorder = recorder(&mut process.supervisor, settings)?;
    let gateway = Gateway::recording(target.table.clone(), inference, limits, recorder);
    process
        .metrics
        .register_conventional(|conventions, own| gateway.register(conventions, own, target.freshness.clone()));
    if let Some(operations) = operations {
        gateway.allow_operations(Arc::new(operations));
    }
    let stop = process.supervisor.stop_token();
    process.supervisor.service("gateway", async move {
        let served = gateway::serve(listener, gateway, stop).await;
        traces.finish().await;
        served
    });
    Ok(target)
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
    Ok(Recorder::storing(records, settings.records_when_down, settings.records_capture))
}
