//! Events on objects, on transitions only.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube_runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::Semaphore;
use tracing::warn;

use super::Kind;

/// Publishes events; cheap to clone.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    turns: Arc<Semaphore>,
}

/// Few, because nothing depends on events: they are not to hold up statuses.
const AT_ONCE: usize = 4;

impl Events {
    /// Events reported by this part of Drover.
    pub fn new(client: &Client, reporter: &str) -> Self {
        let instance = std::env::var("HOSTNAME").ok();
        let recorder = Recorder::new(client.clone(), Reporter { controller: reporter.into(), instance });
        Self { recorder, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Says what happened to an object. An event that can't be written is logged: nothing depends on it.
    pub async fn publish<K: Kind>(&self, object: &K, reason: &str, message: &str, warning: bool) {
        self.publish_on(&object.object_ref(&()), reason, message, warning).await;
    }

    /// The same for an object of any kind.
    pub async fn publish_on(&self, object: &ObjectReference, reason: &str, message: &str, warning: bool) {
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason: reason.into(),
            note: Some(message.into()),
            action: reason.into(),
            secondary: None,
        };
        // Closed by nobody.
        let _turn = self.turns.acquire().await;
        if let Err(error) = self.recorder.publish(&event, object).await {
            warn!(%error, reason, "an event could not be written");
        }
    }
}
