//! `drover mirror`

use tokio::net::TcpListener;

use crate::{
    mirror::{self, Options},
    settings::Settings,
    supervisor::Supervisor,
    telemetry::{Health, Metrics, Readiness},
};

pub async fn run(settings: Settings) -> Result<(), String> {
    let options = Options::read(&settings)?;
    let mut supervisor = Supervisor::new(settings.drain_timeout);
    let listen = async |name: &str, address| {
        TcpListener::bind(address).await.map_err(|error| format!("{name} {address}: {error}"))
    };
    let health = listen("health-listen", settings.health_listen).await?;
    let listener = listen("mirror-listen", settings.mirror_listen).await?;
    let (readiness, metrics) = (Readiness::default(), Metrics::default());
    let answers = Health { readiness: readiness.clone(), metrics: metrics.clone(), ..Health::default() };
    supervisor.service("health", answers.serve(health, supervisor.stop_token()));
    mirror::start(&mut supervisor, listener, options, &metrics)?;
    readiness.set(true);
    supervisor.run().await.map_err(|error| error.to_string())
}
