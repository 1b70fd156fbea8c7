//! A namespace for one scenario, and what a user does in it.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use crate::support::{
    eventually,
    kube_api::{KubeApi, Marker, Write},
};

/// Long enough for anything that is expected to happen soon, on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

pub struct Namespace {
    pub api: Arc<KubeApi>,
    pub name: String,
}

impl Namespace {
    /// A new one whose name begins with `purpose`.
    pub async fn new(api: Arc<KubeApi>, purpose: &str) -> Self {
        let name = crate::world::namespace(&api, purpose).await;
        Self { api, name }
    }

    /// Runs kubectl in it, panics when it fails, returns what it printed.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        self.api.kubectl_ok(&[arguments, &["-n", &self.name]].concat(), None).await
    }

    pub async fn apply(&self, yaml: &str) {
        self.api.kubectl_ok(&["apply", "-n", &self.name, "-f", "-"], Some(yaml)).await;
    }

    /// `kubectl patch` with a merge patch.
    pub async fn patch(&self, kind: &str, name: &str, patch: &str) {
        self.kubectl(&["patch", kind, name, "--type=merge", "-p", patch]).await;
    }

    /// `kubectl delete`, which waits until the object is gone.
    pub async fn delete(&self, kind: &str, name: &str) {
        self.kubectl(&["delete", kind, name, "--timeout=30s"]).await;
    }

    /// An object of one of Drover's kinds.
    pub async fn get(&self, kind: &str, name: &str) -> Value {
        self.api.object(kind, &self.name, name).await
    }

    /// Makes an object of one of Drover's kinds.
    pub async fn create(&self, kind: &str, object: &Value) {
        self.api.create(kind, &self.name, object).await;
    }

    /// Waits until an object's status satisfies `holds`; returns the object.
    pub async fn until(&self, kind: &str, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{kind} {name}: {what}"), SOON, async || {
            let object = self.get(kind, name).await;
            if holds(&object["status"]) { Ok(object) } else { Err(object["status"].to_string()) }
        })
        .await
    }

    /// `kubectl wait --for=condition=Ready`, as a user or a pipeline does it.
    pub async fn wait_ready(&self, kind: &str, name: &str) {
        self.kubectl(&["wait", "--for=condition=Ready", &format!("{kind}/{name}"), "--timeout=60s"]).await;
    }

    /// The reasons of the events on an object.
    pub async fn events(&self, kind: &str, name: &str) -> Vec<String> {
        let selector = format!("involvedObject.kind={kind},involvedObject.name={name}");
        let path = "-o=jsonpath={.items[*].reason}";
        let reasons = self.kubectl(&["get", "events", "--field-selector", &selector, path]).await;
        reasons.split_whitespace().map(str::to_owned).collect()
    }

    /// The writes to objects in it that were answered after the marker.
    pub async fn writes_since(&self, marker: Marker) -> Vec<Write> {
        self.api.writes_since(marker).await.into_iter().filter(|write| write.namespace == self.name).collect()
    }
}

/// Whether a status has a condition with this status.
pub fn condition(status: &Value, type_: &str, expected: &str) -> bool {
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == type_ && condition["status"] == expected)
}
