//! A model taken away, unless something else needs it.

use std::sync::Arc;

use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};

use super::{Operations, delete, is_own, made, object_name, parse, refused};
use crate::{
    api::{ModelDeployment, ModelPull, ModelVersion, PULL_FINALIZER},
    domain::{
        model_name::ModelName,
        operations::{self, Uses},
    },
    ports::OperationError,
};

impl Operations {
    pub(super) async fn remove_model(&self, model: &str) -> Result<(), OperationError> {
        self.ready().await?;
        parse(model)?;
        self.check_uses(model).await?;
        let nodes = self.nodes.list(&self.namespace);
        let holders = nodes.iter().filter(|node| node.model(model).is_some());
        // Once the objects are gone, nobody knows any more who had it before.
        let (put, before): (Vec<_>, Vec<_>) = holders.partition(|node| node.is_pulled(model));
        let mut own: Vec<_> = self.of_model(model).into_iter().filter(|pull| is_own(pull)).collect();
        if own.is_empty() && !put.is_empty() {
            own.push(Arc::new(self.make_to_delete(model).await?));
        }
        if own.is_empty() && before.is_empty() {
            return Err(OperationError::NotFound(format!("model '{model}' not found")));
        }
        for pull in &own {
            delete(&self.api(), pull).await?;
        }
        for pull in &own {
            self.gone(pull).await?;
        }
        let before: Vec<_> = before.iter().map(|node| (name(&***node), node.spec.url.as_str())).collect();
        operations::stays(model, &before).map_or(Ok(()), |why| Err(OperationError::InUse(why)))
    }

    /// Stands for what an earlier object left on nodes: it pulls nothing, and its deletion takes along what Drover put there.
    async fn make_to_delete(&self, model: &str) -> Result<ModelPull, OperationError> {
        let mut pull = made(&object_name(model)?, model, false)?;
        pull.spec.suspend = true;
        pull.metadata.finalizers = Some(vec![PULL_FINALIZER.into()]);
        self.api().create(&PostParams::default(), &pull).await.map_err(refused)
    }

    /// That nothing but callers' pulls needs the model. Asked of the API itself: what is removed is gone.
    async fn check_uses(&self, model: &str) -> Result<(), OperationError> {
        let all = ListParams::default();
        let deployments: Api<ModelDeployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let versions: Api<ModelVersion> = Api::namespaced(self.client.clone(), &self.namespace);
        let pulls = self.api();
        let lists = tokio::try_join!(deployments.list(&all), versions.list(&all), pulls.list(&all));
        let (deployments, versions, pulls) = lists.map_err(refused)?;
        let made_from = |version: &&ModelVersion| {
            version.spec.source.ollama.as_ref().is_some_and(|source| ModelName::same(&source.tag, model))
        };
        let versions: Vec<_> = versions.items.iter().filter(made_from).collect();
        let serves = |deployment: &&ModelDeployment| versions.iter().any(|v| v.spec.model == deployment.spec.model);
        let declared = |pull: &&_| !is_own(pull) && ModelName::same(&pull.spec.model, model);
        let names = deployments.items.iter().map(name);
        let uses = Uses {
            deployment: names.into_iter().find(|name| *name == model),
            deployments: deployments.items.iter().filter(serves).map(name).collect(),
            versions: versions.iter().map(|version| name(*version)).collect(),
            pulls: pulls.items.iter().filter(declared).map(name).collect(),
        };
        operations::obstacle(model, &uses).map_or(Ok(()), |why| Err(OperationError::InUse(why)))
    }
}

fn name<K: ResourceExt>(object: &K) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}
