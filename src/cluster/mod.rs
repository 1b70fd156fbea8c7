//! The only code that talks to the Kubernetes API: watches, status writes, events, logins in Secrets,
//! and what a gateway's callers have done with models.

mod apply;
mod events;
mod follow;
mod index;
mod keys;
mod list;
mod operations;
mod secrets;
mod snapshots;
mod watch;
mod watches;
mod write;

pub use apply::{Applier, Identity, Known, Present};
pub use events::Events;
pub use follow::{Follower, Objects, Sight};
pub use index::{Index, Words};
pub use keys::{SecretKeys, WatchedKeys};
pub use kube::Client;
pub use list::{KindOf, get, list};
pub use operations::Operations;
pub use secrets::registry_login;
pub use snapshots::{keep_snapshot, snapshots};
pub use watch::{Change, Changed, Watched};
pub use watches::Watches;
pub use write::{CLI, Precondition, annotate, apply_status, create, merge, set_finalizer};

use std::{fmt::Debug, path::Path};

use k8s_openapi::{NamespaceResourceScope, api::core::v1::Namespace};
use kube::{
    Api, Resource,
    config::{KubeConfigOptions, Kubeconfig},
    core::DeserializeGuard,
};
use serde::de::DeserializeOwned;

use crate::{standalone, supervisor::Supervisor};

/// What a Drover kind is to generic code.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Connects as the kubeconfig or the pod's service account says.
///
/// # Errors
/// When neither is there or usable: what is wrong and what to do.
pub async fn connect() -> Result<Client, String> {
    const ADVICE: &str = "name a kubeconfig file in KUBECONFIG, or run in a pod with a service account";
    let config = kube::Config::infer().await.map_err(|error| format!("connecting to Kubernetes: {error}; {ADVICE}"))?;
    Client::try_from(config).map_err(|error| format!("connecting to Kubernetes: {error}; {ADVICE}"))
}

/// Connects as this kubeconfig says.
///
/// # Errors
/// When it can't be used: why.
pub async fn connect_as(kubeconfig: &Path) -> Result<Client, String> {
    let fault = |error: &dyn std::fmt::Display| format!("connecting as {} says: {error}", kubeconfig.display());
    let text = Kubeconfig::read_from(kubeconfig).map_err(|error| fault(&error))?;
    let config = kube::Config::from_custom_kubeconfig(text, &KubeConfigOptions::default()).await;
    config.map_err(|error| fault(&error)).and_then(|config| Client::try_from(config).map_err(|error| fault(&error)))
}

/// A client of an API in this process.
pub fn client_of(api: &standalone::Api) -> Client {
    Client::new(api.clone(), "default")
}

/// The objects of one namespace, or of all of them.
pub fn api<K: Kind>(client: &Client, namespace: Option<&str>) -> Api<K> {
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Watches a kind, in one namespace or in all of them, for as long as the process runs.
pub fn watch<K: Kind>(supervisor: &mut Supervisor, client: &Client, namespace: Option<&str>) -> Watched<K>
where
    DeserializeGuard<K>: Kind,
{
    watch_by(supervisor, client, namespace, |_| Vec::new())
}

/// The same, and finds objects by words.
pub fn watch_by<K: Kind>(
    supervisor: &mut Supervisor,
    client: &Client,
    namespace: Option<&str>,
    words: Words<K>,
) -> Watched<K>
where
    DeserializeGuard<K>: Kind,
{
    let (watched, service) = Watched::new(api(client, namespace), words);
    let stop = supervisor.stop_token();
    supervisor.service(&format!("{} watch", K::kind(&())), async move {
        stop.run_until_cancelled(service).await.unwrap_or(Ok(()))
    });
    watched
}

/// What tells this cluster from any other: the uid of its `kube-system` namespace.
///
/// # Errors
/// Whatever the API says.
pub async fn uid(client: &Client) -> Result<String, kube::Error> {
    let system = Api::<Namespace>::all(client.clone()).get("kube-system").await?;
    Ok(system.metadata.uid.unwrap_or_default())
}
