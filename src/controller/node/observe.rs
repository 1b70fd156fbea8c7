//! Looks at one node.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube_runtime::reflector::ObjectRef;
use tracing::debug;

use crate::{
    api::OllamaNode,
    domain::node::{NodeModel, Probe, ProbeFault},
    ports::{ModelDetails, NodeApi},
};

/// A slow answer must come twice in a row before a node counts as away: one may be a busy moment.
const SLOW_ANSWERS: u32 = 2;

/// Looks at nodes; remembers what each digest can do, because that never changes.
pub struct Observer {
    ollama: Arc<dyn NodeApi>,
    details: Mutex<HashMap<String, ModelDetails>>,
    slow: Mutex<HashMap<ObjectRef<OllamaNode>, u32>>,
}

/// What was seen; `None` when the node was slow once and nothing can be said yet.
pub type Seen = Option<Result<Probe, ProbeFault>>;

impl Observer {
    /// One that remembers nothing yet.
    pub fn new(ollama: Arc<dyn NodeApi>) -> Self {
        Self { ollama, details: Mutex::default(), slow: Mutex::default() }
    }

    /// One look.
    pub async fn look(&self, node: &OllamaNode) -> Seen {
        let key = ObjectRef::from_obj(node);
        let mut probe = match self.ollama.probe(&node.spec.url).await {
            Ok(probe) => probe,
            Err(fault) => return self.judge(&key, fault).map(Err),
        };
        locked(&self.slow).remove(&key);
        let known = node.status.iter().flat_map(|status| &status.models);
        let known: HashMap<&str, &NodeModel> = known.map(|model| (model.digest.as_str(), model)).collect();
        for model in &mut probe.models {
            if let Some(details) = self.details(&node.spec.url, model, known.get(model.digest.as_str()).copied()).await
            {
                model.capabilities = details.capabilities;
                model.context_length = details.context_length;
            }
        }
        Some(Ok(probe))
    }

    /// Forgets a node that is gone.
    pub fn forget(&self, node: &ObjectRef<OllamaNode>) {
        locked(&self.slow).remove(node);
    }

    fn judge(&self, key: &ObjectRef<OllamaNode>, fault: ProbeFault) -> Option<ProbeFault> {
        if fault != ProbeFault::TimedOut {
            return Some(fault);
        }
        let mut slow = locked(&self.slow);
        let count = slow.entry(key.clone()).or_default();
        *count += 1;
        (*count >= SLOW_ANSWERS).then_some(fault)
    }

    async fn details(&self, url: &str, model: &NodeModel, known: Option<&NodeModel>) -> Option<ModelDetails> {
        if let Some(details) = locked(&self.details).get(&model.digest) {
            return Some(details.clone());
        }
        let details = match known.filter(|known| !known.capabilities.is_empty()) {
            Some(known) => {
                ModelDetails { capabilities: known.capabilities.clone(), context_length: known.context_length }
            }
            None => match self.ollama.details(url, &model.name).await {
                Ok(details) => details,
                Err(error) => {
                    debug!(url, model = model.name, %error, "no details of this model yet");
                    return None;
                }
            },
        };
        locked(&self.details).insert(model.digest.clone(), details.clone());
        Some(details)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
