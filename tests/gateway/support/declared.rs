//! What a test declares, compiled as the gateway's feed does it.

use std::sync::Arc;

use drover::{
    api::{FallbackChain, ModelCatalog, OllamaNode, RoutingProfile, Worker},
    routing_table::{
        RoutingTable,
        compile::{Objects, compile},
    },
};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::FakeNode;

/// What a test declares.
#[derive(Default)]
pub struct Fleet {
    pub objects: Objects,
}

/// An object in the namespace `default`.
pub fn object<K: DeserializeOwned>(kind: &str, name: &str, spec: Value, more: Value) -> Arc<K> {
    let mut object = json!({
        "apiVersion": "drover.dev/v1alpha1", "kind": kind,
        "metadata": { "name": name, "namespace": "default", "generation": 1 }, "spec": spec,
    });
    object.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    Arc::new(serde_json::from_value(object).unwrap())
}

/// A model as a node lists it.
pub fn model(name: &str, size: &str, capabilities: &[&str]) -> Value {
    let digest = format!("sha256:{}", name.replace([':', '.'], "-"));
    json!({ "name": name, "digest": digest, "sizeBytes": 1, "parameterSize": size, "capabilities": capabilities,
        "contextLength": 8192 })
}

/// One that chats.
pub fn talks(name: &str, size: &str) -> Value {
    model(name, size, &["completion", "tools"])
}

impl Fleet {
    /// With a ready node that has these models.
    pub fn node(mut self, node: &FakeNode, models: &[Value]) -> Self {
        models.iter().for_each(|model| node.hold_model(model["name"].as_str().unwrap()));
        let ready = json!([{ "type": "Ready", "status": "True", "reason": "Answering", "message": "",
            "lastTransitionTime": "2026-11-20T20:00:00Z" }]);
        let status = json!({ "status": { "version": "0.17.4", "models": models, "modelCount": models.len(), "conditions": ready } });
        let spec = json!({ "url": node.url, "maxConcurrentRequests": 4 });
        self.objects.nodes.push(object::<OllamaNode>("OllamaNode", &node.name, spec, status));
        self
    }

    /// With a chain.
    pub fn chain(mut self, name: &str, spec: Value) -> Self {
        self.objects.chains.push(object::<FallbackChain>("FallbackChain", name, spec, json!({})));
        self
    }

    /// With a profile.
    pub fn profile(mut self, name: &str, spec: Value) -> Self {
        self.objects.profiles.push(object::<RoutingProfile>("RoutingProfile", name, spec, json!({})));
        self
    }

    /// With a worker.
    pub fn worker(mut self, name: &str, spec: Value) -> Self {
        self.objects.workers.push(object::<Worker>("Worker", name, spec, json!({})));
        self
    }

    /// With a catalogue.
    pub fn catalog(mut self, spec: Value) -> Self {
        self.objects.catalogs.push(object::<ModelCatalog>("ModelCatalog", "ours", spec, json!({})));
        self
    }

    /// What a gateway would serve.
    pub fn table(&self) -> RoutingTable {
        compile(&self.objects, Timestamp::UNIX_EPOCH)
    }
}

/// A question to a model.
pub fn chat(model: &str) -> Value {
    json!({ "model": model, "stream": false, "messages": [{ "role": "user", "content": "hi" }] })
}

/// A chain of these steps.
pub fn steps(targets: &[&str]) -> Value {
    json!({ "steps": targets.iter().map(|target| json!({ "target": { "model": target } })).collect::<Vec<_>>() })
}
