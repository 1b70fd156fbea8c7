//! All kinds of Drover's, watched.

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};

use super::{Client, Watched, watch};
use crate::{
    api::{
        ApiKey, FallbackChain, ModelCatalog, ModelDeployment, ModelPull, ModelVersion, OllamaNode, Provider,
        RoutingProfile, Worker,
    },
    supervisor::Supervisor,
};

/// The objects of every kind.
#[derive(Clone)]
pub struct Watches {
    /// Nodes.
    pub nodes: Watched<OllamaNode>,
    /// Pulls.
    pub pulls: Watched<ModelPull>,
    /// Versions.
    pub versions: Watched<ModelVersion>,
    /// Deployments.
    pub deployments: Watched<ModelDeployment>,
    /// Providers.
    pub providers: Watched<Provider>,
    /// Keys of callers.
    pub keys: Watched<ApiKey>,
    /// What is known of models.
    pub catalogs: Watched<ModelCatalog>,
    /// Profiles.
    pub profiles: Watched<RoutingProfile>,
    /// Chains.
    pub chains: Watched<FallbackChain>,
    /// Workers.
    pub workers: Watched<Worker>,
}

impl Watches {
    /// Watches of one namespace, or of all.
    pub fn start(supervisor: &mut Supervisor, client: &Client, namespace: Option<&str>) -> Self {
        Self {
            nodes: watch(supervisor, client, namespace),
            pulls: watch(supervisor, client, namespace),
            versions: watch(supervisor, client, namespace),
            deployments: watch(supervisor, client, namespace),
            providers: watch(supervisor, client, namespace),
            keys: watch(supervisor, client, namespace),
            catalogs: watch(supervisor, client, namespace),
            profiles: watch(supervisor, client, namespace),
            chains: watch(supervisor, client, namespace),
            workers: watch(supervisor, client, namespace),
        }
    }

    /// Waits for the first complete view.
    ///
    /// # Errors
    /// When a watch ended before.
    pub async fn ready(&self) -> Result<(), String> {
        self.nodes.ready().await?;
        self.pulls.ready().await?;
        self.versions.ready().await?;
        self.deployments.ready().await?;
        self.providers.ready().await?;
        self.keys.ready().await?;
        self.catalogs.ready().await?;
        self.profiles.ready().await?;
        self.chains.ready().await?;
        self.workers.ready().await
    }

    /// Whether there is a complete view.
    pub fn are_ready(&self) -> bool {
        let of_models = self.nodes.is_ready() && self.pulls.is_ready() && self.versions.is_ready();
        let of_names = self.catalogs.is_ready() && self.profiles.is_ready() && self.chains.is_ready();
        let of_callers = self.keys.is_ready() && self.workers.is_ready();
        of_models && of_names && of_callers && self.deployments.is_ready() && self.providers.is_ready()
    }

    /// Word of every change.
    pub fn changes(&self) -> BoxStream<'static, ()> {
        stream::select(self.changes_of_names(), self.keys.changes().map(drop).boxed()).boxed()
    }

    /// Word of every change but those of keys, which change what callers may do, and not what a name stands for.
    pub fn changes_of_names(&self) -> BoxStream<'static, ()> {
        stream::select_all([
            self.nodes.changes().map(drop).boxed(),
            self.pulls.changes().map(drop).boxed(),
            self.versions.changes().map(drop).boxed(),
            self.deployments.changes().map(drop).boxed(),
            self.providers.changes().map(drop).boxed(),
            self.catalogs.changes().map(drop).boxed(),
            self.profiles.changes().map(drop).boxed(),
            self.chains.changes().map(drop).boxed(),
            self.workers.changes().map(drop).boxed(),
        ])
        .boxed()
    }
}
