//! `drover mirror`

use axum::Router;

use super::process::{Process, listen};
use crate::{
    mirror::{self, Options},
    settings::Settings,
    telemetry::Readiness,
};

pub async fn run(settings: Settings) -> Result<(), String> {
    let options = Options::read(&settings)?;
    let health = listen("health-listen", settings.health_listen).await?;
    let listener = listen("mirror-listen", settings.mirror_listen).await?;
    let readiness = Readiness::default();
    let mut process = Process::new(&settings, health, vec![readiness.clone()], Router::new());
    mirror::start(&mut process.supervisor, listener, options, &process.metrics)?;
    readiness.set(true);
    process.run().await
}
