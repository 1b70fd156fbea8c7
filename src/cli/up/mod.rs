//! `drover up`: the Kubernetes API, controller, gateway and mirror in one process, over one folder.

mod defaults;
mod news;
mod nodes;
mod parts;
mod providers;
mod ready;
mod words;

use std::{
    env,
    path::{Path, PathBuf},
};

use tokio::time::Instant;

use super::{gateway, process::Process};
use crate::{data_dir::DataDir, manifests, settings::Settings};
use news::News;
use nodes::Named;
use parts::{Doors, Parts};
pub use ready::Ready;

pub async fn run(settings: Settings) -> Result<(), String> {
    let began = Instant::now();
    let dir = folder(settings.data_dir.as_deref())?;
    let _lock = dir.lock().map_err(|refused| refused.to_string())?;
    ready::remove_leftover(&dir)?;
    let doors = Doors::open(&settings).await?;
    let (mut process, parts) = Parts::start(doors, &settings, &dir).await?;
    let Process { supervisor, metrics } = &mut process;
    let namespace = gateway::namespace(&settings);
    let first_pass = settings
        .manifests
        .map(|folder| manifests::start(supervisor, parts.client.clone(), folder, namespace.clone(), metrics));
    let named = Named { nodes: settings.node, namespace, gateway: parts.ready.gateway.clone() };
    let news = News {
        dir,
        began,
        named,
        first_pass,
        from_environment: settings.provider_environment,
        defaults: settings.model_default,
    };
    let stop = supervisor.stop_token();
    supervisor.service("ready.json", async move { stop.run_until_cancelled(news.tell(parts)).await.unwrap_or(Ok(())) });
    process.run().await
}

/// The folder that is named, or the usual one.
///
/// # Errors
/// When there is none: what to name.
pub fn folder(given: Option<&Path>) -> Result<DataDir, String> {
    let Some(dir) = given else { return usual_folder() };
    // The kubeconfig's path is for people in any folder.
    std::path::absolute(dir).map(DataDir::new).map_err(|error| format!("--data-dir {}: {error}", dir.display()))
}

/// The folder of an instance that nobody gave one.
///
/// # Errors
/// When there is no home; it says what to do.
pub fn usual_folder() -> Result<DataDir, String> {
    DataDir::usual(|name| env::var_os(name).map(PathBuf::from))
}

/// The instance of this machine's user, if there is one: its folder, and where it listens.
pub fn running() -> Option<(DataDir, Ready)> {
    let given = env::var_os("DROVER_DATA_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let dir = folder(given.as_deref()).ok()?;
    let ready = Ready::read(&dir)?;
    Some((dir, ready))
}
