//! How a process finds the keys of providers.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;

use crate::{
    cluster::{Client, SecretKeys, Watched, WatchedKeys},
    ports::ProviderKeys,
    providers::keys::{FileKeys, Keys, NoSecrets},
    settings::Settings,
};

/// The keys of providers, and what tells of their changes.
#[derive(Clone)]
pub struct KeyPlace {
    /// Finds them.
    pub keys: Arc<dyn ProviderKeys>,
    /// The Secrets that they are in, where those are watched.
    pub secrets: Option<Watched<Secret>>,
}

impl KeyPlace {
    /// For a gateway, which may not read Secrets: mounted files and the environment.
    pub fn of_gateway(settings: &Settings) -> Self {
        Self::new(mounted(settings).unwrap_or_else(|| Arc::new(NoSecrets)), None)
    }

    /// For a controller: the same; where none are mounted, the API.
    pub fn of_controller(settings: &Settings, client: Client) -> Self {
        Self::new(mounted(settings).unwrap_or_else(|| Arc::new(SecretKeys(client))), None)
    }

    /// For both in one process: watched Secrets, so that no request asks the API, and the environment.
    pub fn of_watched(secrets: Watched<Secret>) -> Self {
        Self::new(Arc::new(WatchedKeys(secrets.clone())), Some(secrets))
    }

    fn new(in_secrets: Arc<dyn ProviderKeys>, secrets: Option<Watched<Secret>>) -> Self {
        Self { keys: Arc::new(Keys { secrets: in_secrets }), secrets }
    }
}

fn mounted(settings: &Settings) -> Option<Arc<dyn ProviderKeys>> {
    let dir = settings.provider_keys_dir.clone()?;
    Some(Arc::new(FileKeys { dir }))
}
