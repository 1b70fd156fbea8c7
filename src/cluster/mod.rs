//! The only code that talks to the Kubernetes API: watches, status writes, events.

mod events;
mod watch;
mod write;

pub use events::Events;
pub use kube::Client;
pub use watch::{Change, Watched};
pub use write::{Precondition, annotate, apply_status, set_finalizer};

use std::fmt::Debug;

use k8s_openapi::{NamespaceResourceScope, api::core::v1::Namespace};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

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
/// When neither is there or usable.
pub async fn connect() -> Result<Client, kube::Error> {
    let config = kube::Config::infer().await.map_err(kube::Error::InferConfig)?;
    Client::try_from(config)
}

/// The objects of one namespace, or of all of them.
pub fn api<K: Kind>(client: &Client, namespace: Option<&str>) -> Api<K> {
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// What tells this cluster from any other: the uid of its `kube-system` namespace.
///
/// # Errors
/// Whatever the API says.
pub async fn uid(client: &Client) -> Result<String, kube::Error> {
    let system = Api::<Namespace>::all(client.clone()).get("kube-system").await?;
    Ok(system.metadata.uid.unwrap_or_default())
}
