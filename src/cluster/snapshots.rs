//! Snapshots of the registry, in one ConfigMap for each deployment, which goes with it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, ObjectMeta, PostParams},
};

use super::write::FIELD_MANAGER;
use crate::{
    api::{LABEL_REGISTRY, ModelDeployment},
    domain::registry::{ModelRecord, Snapshots},
};

/// Keeps what the registry of a deployment's model is before a change. Taken once more with the same content, nothing is
/// written.
///
/// # Errors
/// Whatever the API says; 409 when somebody else wrote meanwhile.
pub async fn keep_snapshot(
    client: &Client,
    deployment: &ModelDeployment,
    number: i64,
    taken_at: Timestamp,
    model: ModelRecord,
) -> Result<(), kube::Error> {
    let namespace = deployment.namespace().unwrap_or_default();
    let api = Api::<ConfigMap>::namespaced(client.clone(), &namespace);
    let name = format!("drover-registry-{}", deployment.name_any());
    let present = api.get_opt(&name).await?;
    let is_own = |found: &&ConfigMap| {
        found.owner_references().iter().any(|owner| Some(&owner.uid) == deployment.meta().uid.as_ref())
    };
    // What an earlier deployment of that name left is of no use to this one, whose numbers begin anew.
    let own = present.as_ref().filter(is_own);
    let mut snapshots = own.and_then(|found| found.data.as_ref()).map(Snapshots::read).unwrap_or_default();
    if snapshots.has(number, &model) {
        return Ok(());
    }
    snapshots.take(number, taken_at, model);
    let object = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace),
            labels: Some([(LABEL_REGISTRY.to_owned(), deployment.spec.model.clone())].into()),
            owner_references: deployment.owner_ref(&()).map(|owner| vec![owner]),
            resource_version: present.as_ref().and_then(ResourceExt::resource_version),
            ..ObjectMeta::default()
        },
        data: Some(snapshots.entries()),
        ..ConfigMap::default()
    };
    let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
    match present {
        Some(_) => api.replace(&name, &params, &object).await.map(drop),
        None => api.create(&params, &object).await.map(drop),
    }
}

/// The snapshots in a namespace, by model.
///
/// # Errors
/// Whatever the API says.
pub async fn snapshots(client: &Client, namespace: &str) -> Result<BTreeMap<String, Snapshots>, kube::Error> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let mut found = api.list(&ListParams::default().labels(LABEL_REGISTRY)).await?.items;
    // Of two for one model, the one of the deployment that is there was made later.
    found.sort_by_key(|map| map.creation_timestamp().map(|time| time.0));
    let read = |map: ConfigMap| Some((map.labels().get(LABEL_REGISTRY)?.clone(), Snapshots::read(map.data.as_ref()?)));
    Ok(found.into_iter().filter_map(read).collect())
}
