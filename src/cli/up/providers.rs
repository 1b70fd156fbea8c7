//! The providers whose keys are in the environment, as objects.

use std::collections::BTreeMap;

use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};
use tracing::info;

use crate::{
    api::Provider,
    cluster::{self, Applier, Client, Identity},
    domain::provider::{Changes, Known, Present, changes},
    providers::keys::in_environment,
};

/// Makes the objects of providers that have a key now, and deletes those that had one at an earlier start.
///
/// # Errors
/// What the API says.
pub async fn apply(applier: &Applier, client: &Client, namespace: &str, is_wanted: bool) -> Result<(), String> {
    let own = applier.own().await.map_err(|error| error.to_string())?;
    let is_own = |name: &str| own.iter().any(|present| is_provider(&present.identity, namespace, name));
    let objects = cluster::api::<Provider>(client, Some(namespace)).list(&ListParams::default()).await;
    let there = objects.map_err(|error| error.to_string())?.items.into_iter().map(|provider| {
        let name = provider.name_any();
        let is_own = is_own(&name);
        (name, Present { url: provider.spec.url, is_own })
    });
    let has_key = |variable: &str| is_wanted && in_environment(variable).is_some();
    let Changes { apply, delete } = changes(has_key, &there.collect::<BTreeMap<_, _>>());
    for known in apply {
        let applied = applier.apply(&applier.recognise(object(known), namespace)?, true).await;
        applied.map_err(|error| format!("provider {}: {error}", known.name))?;
        info!(provider = known.name, "its key is in {}: its models can be called", known.variable);
    }
    for name in &delete {
        for present in own.iter().filter(|present| is_provider(&present.identity, namespace, name)) {
            applier.delete(present).await.map_err(|error| format!("provider {name}: {error}"))?;
        }
    }
    Ok(())
}

fn object(known: &Known) -> Value {
    json!({
        "apiVersion": "drover.dev/v1alpha1",
        "kind": "Provider",
        "metadata": { "name": known.name },
        "spec": { "type": known.protocol, "url": known.url },
    })
}

fn is_provider(identity: &Identity, namespace: &str, name: &str) -> bool {
    identity.kind == "Provider" && identity.namespace.as_deref() == Some(namespace) && identity.name == name
}
