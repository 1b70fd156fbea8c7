//! Events on objects, on transitions only.

use kube::Client;
use kube_runtime::events::{Event, EventType, Recorder, Reporter};
use tracing::warn;

use super::Kind;

/// Publishes events; cheap to clone.
#[derive(Clone)]
pub struct Events(Recorder);

impl Events {
    /// Events reported by the controller.
    pub fn new(client: &Client) -> Self {
        let instance = std::env::var("HOSTNAME").ok();
        Self(Recorder::new(client.clone(), Reporter { controller: "drover-controller".into(), instance }))
    }

    /// Says what happened to an object. An event that can't be written is logged: nothing depends on it.
    pub async fn publish<K: Kind>(&self, object: &K, reason: &str, message: &str, warning: bool) {
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason: reason.into(),
            note: Some(message.into()),
            action: reason.into(),
            secondary: None,
        };
        if let Err(error) = self.0.publish(&event, &object.object_ref(&())).await {
            warn!(%error, reason, "an event could not be written");
        }
    }
}
