//! Objects of other kinds that have a deployment's bare name.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;

use super::super::{
    Context,
    driver::{Refs, references},
    routing::name_clash,
};
use crate::{
    api::ModelDeployment,
    cluster::{self, Watched},
    domain::{conditions::Finding, reference::Kind},
};

/// That an older object of another kind has the deployment's bare name.
pub fn clash(context: &Context, object: &ModelDeployment) -> Option<Finding> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let own = (object.creation_timestamp(), Kind::Deployment);
    let chain = since(&context.chains, &namespace, &name).map(|since| (since, Kind::Chain));
    let profile = since(&context.profiles, &namespace, &name).map(|since| (since, Kind::Profile));
    let worker = since(&context.workers, &namespace, &name).map(|since| (since, Kind::Worker));
    let oldest = [chain, profile, worker].into_iter().flatten().min().filter(|other| *other < own);
    oldest.map(|(_, owner)| name_clash(Kind::Deployment, &name, owner))
}

/// Since when an object of this name is there.
fn since<K: cluster::Kind>(watched: &Watched<K>, namespace: &str, name: &str) -> Option<Option<Time>> {
    let object = watched.store().get(&ObjectRef::new(name).within(namespace))?;
    object.meta().deletion_timestamp.is_none().then(|| object.creation_timestamp())
}

/// The deployment that an object of another kind shares its bare name with.
pub fn of_same_name<K: cluster::Kind>(
    others: &Watched<K>,
    deployments: &Watched<ModelDeployment>,
) -> Refs<ModelDeployment> {
    references(others, deployments.clone(), |other: &K| {
        vec![ObjectRef::new(&other.name_any()).within(&other.namespace().unwrap_or_default())]
    })
}
