//! What names stand for, as commands see it: worked out from the objects like everywhere else.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use kube::api::ListParams;

use super::client;
use crate::{
    cluster::{self, Client, Kind},
    routing_table::{
        Namespace,
        compile::{Objects, compile},
    },
};

/// Where to look, and how to print it.
#[derive(Args)]
pub struct Place {
    /// The namespace; without one, the kubeconfig's
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// How a list is printed.
#[derive(Clone, Copy, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// A namespace as commands look at it.
pub struct Sight {
    /// For writes.
    pub client: Client,
    /// Its name.
    pub namespace: String,
    /// What is declared there.
    pub objects: Objects,
}

impl Sight {
    /// Of this namespace, or of the kubeconfig's.
    ///
    /// # Errors
    /// What the API says.
    pub async fn of(namespace: Option<&str>) -> Result<Self, String> {
        let client = client::connect().await?;
        let namespace = namespace.unwrap_or(client.default_namespace()).to_owned();
        let objects = Objects {
            nodes: list(&client, &namespace).await?,
            versions: list(&client, &namespace).await?,
            deployments: list(&client, &namespace).await?,
            pulls: list(&client, &namespace).await?,
            providers: list(&client, &namespace).await?,
            keys: Vec::new(),
            catalogs: list(&client, &namespace).await?,
            profiles: list(&client, &namespace).await?,
            chains: list(&client, &namespace).await?,
            workers: list(&client, &namespace).await?,
        };
        Ok(Self { client, namespace, objects })
    }

    /// What requests would see of it.
    pub fn compiled(&self) -> Namespace {
        compile(&self.objects, Timestamp::UNIX_EPOCH).namespaces.remove(&self.namespace).unwrap_or_default()
    }
}

async fn list<K: Kind>(client: &Client, namespace: &str) -> Result<Vec<Arc<K>>, String> {
    let listed = cluster::api::<K>(client, Some(namespace)).list(&ListParams::default()).await;
    Ok(listed.map_err(|error| error.to_string())?.items.into_iter().map(Arc::new).collect())
}
