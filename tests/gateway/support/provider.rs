//! Providers as a controller leaves them, and their keys.

use std::{collections::BTreeMap, sync::Arc};

use drover::{
    api::Provider,
    domain::provider::KeySource,
    ports::{ProviderKey, ProviderKeys},
    routing_table::{
        RoutingTable,
        compile::{Objects, compile},
    },
};
use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The key of every provider in these tests, which must not be seen anywhere.
pub const KEY: &str = "sk-never-to-be-seen-4711";

/// Has one key for whoever names a Secret, but for the Secret `none`.
pub struct OneKey;

impl ProviderKeys for OneKey {
    fn key<'a>(&'a self, _: &'a str, source: &'a KeySource) -> BoxFuture<'a, Result<Option<ProviderKey>, String>> {
        let key = match source {
            KeySource::Secret { name, .. } if name == "none" => Err("Secret none is not there".into()),
            KeySource::Secret { .. } => Ok(ProviderKey::new(KEY)),
            _ => Ok(None),
        };
        async move { key }.boxed()
    }
}

/// A provider named `far` whose last check passed, with these parts of its spec.
pub fn provider(kind: &str, url: &str, more: Value) -> Provider {
    let mut spec = json!({ "type": kind, "url": url, "apiKeySecretRef": { "name": "far" } });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "apiVersion": "drover.dev/v1alpha1", "kind": "Provider",
        "metadata": { "name": "far", "namespace": "default" },
        "spec": spec,
        "status": { "conditions": [{
            "type": "Ready", "status": "True", "reason": "Answering", "message": "",
            "lastTransitionTime": "2026-11-20T20:00:00Z",
        }] },
    }))
    .unwrap()
}

/// A table that has this provider alone.
pub fn offering(provider: Provider) -> RoutingTable {
    let objects = Objects { providers: vec![Arc::new(provider)], ..Objects::default() };
    compile(&objects, Timestamp::UNIX_EPOCH)
}

/// Models by name only.
pub fn models(names: &[&str]) -> Value {
    json!({ "models": names.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>() })
}

/// Merges objects.
pub fn with(parts: &[Value]) -> Value {
    let fields = parts.iter().flat_map(|part| part.as_object().unwrap().clone());
    json!(fields.collect::<BTreeMap<String, Value>>())
}
