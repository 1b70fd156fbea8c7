//! Models pulled and removed for callers of a gateway: `ollama pull` makes a ModelPull, `ollama rm` deletes it.
//!
//! Those ModelPulls carry a label. What people or Git declared is followed by a pull of the same model, and never changed or
//! deleted.

mod again;
mod follow;
mod remove;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use self::{
    again::{Wanted, new_id},
    follow::Followed,
};
use super::{Kind, Watched};
use crate::{
    api::{ANNOTATION_REFRESH, DeletionPolicy, LABEL_APPLIED_BY, ModelPull, OllamaNode},
    domain::{alias::is_reserved, digest::Digest, model_name::ModelName, operations},
    ports::{ModelOperations, OperationError, Pulling},
};

/// The value of [`LABEL_APPLIED_BY`] on what callers had made, and who manages its fields.
const GATEWAY: &str = "gateway";
const FIELD_MANAGER: &str = "drover-gateway";
/// How long the first view of the fleet may take.
const READY_WITHIN: Duration = Duration::from_secs(5);
/// How long a deletion may take: the controller gives nodes that are away a minute.
const GONE_WITHIN: Duration = Duration::from_secs(90);

/// Does it in one namespace.
pub struct Operations {
    client: Client,
    namespace: String,
    nodes: Watched<OllamaNode>,
    pulls: Watched<ModelPull>,
    stop: CancellationToken,
}

impl Operations {
    /// Over the watched nodes and pulls of the namespace; what is under way ends with `stop`.
    pub fn new(
        client: Client,
        namespace: &str,
        (nodes, pulls): (Watched<OllamaNode>, Watched<ModelPull>),
        stop: CancellationToken,
    ) -> Self {
        Self { client, namespace: namespace.into(), nodes, pulls, stop }
    }

    fn api(&self) -> Api<ModelPull> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits until the watches have seen everything once; a gateway that just started serves before they have.
    async fn ready(&self) -> Result<(), OperationError> {
        let ready = async { tokio::try_join!(self.nodes.ready(), self.pulls.ready()) };
        let in_time = tokio::time::timeout(READY_WITHIN, ready).await;
        let unavailable = || OperationError::Unavailable("the Kubernetes API does not answer: try again".into());
        in_time.ok().and_then(Result::ok).map(drop).ok_or_else(unavailable)
    }

    /// The pull that is there for the model, or a new one.
    async fn ensure(&self, model: &str, insecure: bool) -> Result<Wanted, OperationError> {
        let object = object_name(model)?;
        loop {
            match self.api().get_opt(&object).await.map_err(refused)? {
                Some(pull) if is_going(&pull) => self.gone(&pull).await?,
                Some(pull) if ModelName::same(&pull.spec.model, model) => match self.again(pull).await? {
                    Some(wanted) => return Ok(wanted),
                    None => continue,
                },
                Some(_) => return Err(OperationError::InUse(format!("ModelPull {object} is for another model"))),
                None => {}
            }
            if let Some(declared) = self.of_model(model).into_iter().find(|pull| !is_own(pull))
                && let Some(wanted) = self.again(declared.as_ref().clone()).await?
            {
                return Ok(wanted);
            }
            let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
            let mut new = made(&object, model, insecure)?;
            // Nodes may have what the tag stood for before.
            new.annotations_mut().insert(ANNOTATION_REFRESH.into(), new_id());
            match self.api().create(&params, &new).await {
                // Somebody else was quicker: theirs is as good.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                created => return created.map(|pull| Wanted::new(pull, true)).map_err(refused),
            }
        }
    }

    /// The pulls of a model that stay, by name.
    fn of_model(&self, model: &str) -> Vec<Arc<ModelPull>> {
        self.pulls.find(&self.namespace, |pull| !is_going(pull) && ModelName::same(&pull.spec.model, model))
    }

    /// Waits until exactly this object is gone.
    async fn gone(&self, pull: &ModelPull) -> Result<(), OperationError> {
        let (changes, uid) = (self.pulls.changes(), pull.uid());
        let is_there = || !self.pulls.find(&self.namespace, |other| other.uid() == uid).is_empty();
        let gone = changes.take_while(|_| std::future::ready(is_there())).for_each(|_| std::future::ready(()));
        let late =
            || OperationError::Unavailable(format!("ModelPull {} is still being deleted: try again", pull.name_any()));
        let in_time = self.stop.run_until_cancelled(tokio::time::timeout(GONE_WITHIN, gone)).await;
        in_time.and_then(Result::ok).ok_or_else(late)
    }
}

/// Deletes exactly this object; one that is gone is as good.
async fn delete(api: &Api<ModelPull>, pull: &ModelPull) -> Result<(), OperationError> {
    let exactly = Preconditions { uid: pull.uid(), resource_version: None };
    match api.delete(&pull.name_any(), &DeleteParams::default().preconditions(exactly)).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        deleted => deleted.map(drop).map_err(refused),
    }
}

impl ModelOperations for Operations {
    fn pull<'a>(&'a self, model: &'a str, insecure: bool) -> BoxFuture<'a, Result<Pulling, OperationError>> {
        async move {
            self.ready().await?;
            let followed = Followed::new(self, self.ensure(model, insecure).await?);
            Ok(stream::unfold(followed, async |mut followed| Some((followed.next().await?, followed))).boxed())
        }
        .boxed()
    }

    fn remove<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<(), OperationError>> {
        self.remove_model(model).boxed()
    }
}

/// The object that a caller's pull makes.
fn made(object: &str, model: &str, insecure: bool) -> Result<ModelPull, OperationError> {
    let made = json!({
        "metadata": { "name": object, "labels": { LABEL_APPLIED_BY: GATEWAY } },
        "spec": { "model": model, "insecure": insecure, "deletionPolicy": "Delete" },
    });
    serde_json::from_value(made).map_err(|error| OperationError::Invalid(error.to_string()))
}

/// The name of the object that all callers' pulls of a model share.
fn object_name(model: &str) -> Result<String, OperationError> {
    let name = parse(model)?;
    let hash = Digest::from_sha256(&Sha256::digest(operations::identity(&name)));
    Ok(operations::object_name(&name, hash.hex()))
}

fn parse(model: &str) -> Result<ModelName, OperationError> {
    let name: ModelName = model.parse().map_err(OperationError::Invalid)?;
    if is_reserved(&name.namespace) {
        return Err(OperationError::Invalid(format!("{model:?}: names that begin with drover- are kept for Drover")));
    }
    Ok(name)
}

/// Whether a caller's pull made it, and it still takes its model along: otherwise somebody has changed that.
fn is_own(pull: &ModelPull) -> bool {
    let is_labelled = pull.labels().get(LABEL_APPLIED_BY).is_some_and(|by| by == GATEWAY);
    is_labelled && pull.spec.deletion_policy == DeletionPolicy::Delete
}

fn is_going<K: Kind>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// What the API did not do.
fn refused(error: kube::Error) -> OperationError {
    match error {
        kube::Error::Api(status) if status.code == 403 => OperationError::Forbidden(format!(
            "the gateway's account may not change ModelPulls (set gateway.modelOperations of the chart): {}",
            status.message
        )),
        kube::Error::Api(status) if matches!(status.code, 400 | 422) => OperationError::Invalid(status.message.clone()),
        error => OperationError::Unavailable(format!("the Kubernetes API: {error}")),
    }
}
