//! The parts of `drover up`, composed as the commands for a cluster compose them.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use tokio::net::TcpListener;

use super::{
    super::{
        audit,
        controller::{self, Places},
        gateway,
        process::{Process, listen},
        provider_keys::KeyPlace,
    },
    ready::Ready,
};
use crate::{
    api,
    cluster::{self, Client, Operations, Watches},
    controller::Context,
    data_dir::DataDir,
    health::FleetHealth,
    mirror,
    routing_table::feed,
    settings::Settings,
    standalone::{Api, Server, reachable, write_private},
    supervisor::Supervisor,
    telemetry::Readiness,
};

/// Where the parts listen, but for the API.
pub struct Doors {
    gateway: TcpListener,
    mirror: TcpListener,
    health: TcpListener,
}

impl Doors {
    /// Listens at all of them.
    ///
    /// # Errors
    /// Which flag to change, and why.
    pub async fn open(settings: &Settings) -> Result<Self, String> {
        let at = |port| SocketAddr::new(settings.listen, port);
        Ok(Self {
            gateway: listen("gateway-port", at(settings.gateway_port)).await?,
            mirror: listen("mirror-port", at(settings.mirror_port)).await?,
            health: listen("health-port", at(settings.health_port)).await?,
        })
    }
}

/// Everything that runs.
pub struct Parts {
    /// Where it is.
    pub ready: Ready,
    /// The API, in this process.
    pub client: Client,
    /// The controller's.
    pub context: Arc<Context>,
    readiness: [Readiness; 2],
}

impl Parts {
    /// Starts all of them over a folder.
    ///
    /// # Errors
    /// Which one can't start, and why.
    pub async fn start(doors: Doors, settings: &Settings, dir: &DataDir) -> Result<(Process, Self), String> {
        let (controls, serves) = (Readiness::default(), Readiness::default());
        let fleet = FleetHealth::default();
        let at = |listener: &TcpListener| listener.local_addr().map(|address| url("http", address));
        let at = |listener| at(listener).map_err(|error| error.to_string());
        let (health, gateway, mirror) = (at(&doors.health)?, at(&doors.gateway)?, at(&doors.mirror)?);
        let audit = audit::open(&Settings { data_dir: Some(dir.path().into()), ..settings.clone() })?;
        let shown = audit::router(audit::Shown { log: audit.clone(), is_open: settings.management_open });
        let more = fleet.router().merge(shown);
        let mut process = Process::new(settings, doors.health, vec![controls.clone(), serves.clone()], more);
        let (server, client) = serve_api(&mut process.supervisor, dir, settings).await?;
        let ready = Ready {
            api: url("https", server.address),
            kubeconfig: server.kubeconfig,
            gateway,
            cockpit: None,
            mirror,
            health,
        };
        let settings = Settings {
            gateways: vec![ready.gateway.clone()],
            mirror_url: Some(ready.mirror.clone()),
            mirror_key_file: Some(mirror_key(settings, dir)?),
            ..settings.clone()
        };
        let of_mirror = Settings { data_dir: Some(dir.mirror()), ..settings.clone() };
        let options = mirror::Options::read(&of_mirror)?;
        mirror::start(&mut process.supervisor, doors.mirror, options, &process.metrics)?;
        let of_gateway = Settings { data_dir: Some(dir.gateway()), ..settings.clone() };
        let keys = KeyPlace::of_watched(cluster::watch(&mut process.supervisor, &client, None));
        let namespace = gateway::namespace(&settings);
        let watches = Watches::start(&mut process.supervisor, &client, Some(&namespace));
        let (supervisor, is_allowed) = (&process.supervisor, settings.model_operations.unwrap_or(true));
        let watched = (watches.nodes.clone(), watches.pulls.clone());
        let stop = supervisor.stop_token();
        let operations = is_allowed.then(|| Operations::new(client.clone(), &namespace, watched, stop));
        let found = keys.keys.clone();
        let target = gateway::start(&mut process, doors.gateway, &of_gateway, serves.clone(), found, operations)?;
        feed::start(&mut process.supervisor, client.clone(), &namespace, watches, target);
        let places = Places { keys, mirror_nearby: Some(ready.mirror.clone()), audit };
        let context =
            controller::start(&mut process, client.clone(), &settings, controls.clone(), &fleet, places).await?;
        Ok((process, Self { ready, client, context, readiness: [controls, serves] }))
    }

    /// Waits until every object was read.
    pub async fn are_ready(&self) {
        for part in &self.readiness {
            part.reached().await;
        }
    }
}

/// Starts the API, on its port and for this process.
async fn serve_api(
    supervisor: &mut Supervisor,
    dir: &DataDir,
    settings: &Settings,
) -> Result<(Server, Client), String> {
    let (api, service) = Api::open(dir.path(), &api::crds(), settings.api_sync).await?;
    supervisor.service("Kubernetes API", service);
    let client = cluster::client_of(&api);
    let address = SocketAddr::new(settings.listen, settings.api_port);
    let bound = Server::bind(api, address, dir.path(), supervisor.stop_token()).await;
    let (server, answers) = bound.map_err(|error| format!("--api-port: {error}"))?;
    supervisor.service("Kubernetes API's port", answers);
    Ok((server, client))
}

/// The key by which the controller and people know the mirror: a file of their own, or one that is made once.
fn mirror_key(settings: &Settings, dir: &DataDir) -> Result<PathBuf, String> {
    if let Some(file) = &settings.mirror_key_file {
        return Ok(file.clone());
    }
    let file = dir.mirror_key();
    if !file.exists() {
        let key: [u8; 32] = rand::random();
        let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        write_private(&file, &text)?;
    }
    Ok(file)
}

/// Where this machine reaches a part.
fn url(scheme: &str, address: SocketAddr) -> String {
    format!("{scheme}://{}", reachable(address))
}
