//! The one resolver of workers.

use std::{collections::BTreeMap, fmt::Display, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Declared, Directory, Pointer, Policy, WorkerSpec};
use crate::domain::{model_db::Capabilities, routing::hash};

/// What a worker comes to, as everybody is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolution {
    /// The model, or the chain.
    pub resolved_model: String,
    /// Why this one.
    pub reason: String,
    /// When it may change.
    pub policy: Policy,
    /// What else is known of it: `default`, `override`, `identity`.
    pub metadata: BTreeMap<String, String>,
}

/// A worker as requests see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worker<V> {
    /// What it comes to; `None`: it can't be used.
    pub pointer: Option<Pointer>,
    /// What the model must be able to do.
    pub floor: Capabilities,
    /// What it is called with.
    pub parameters: Arc<BTreeMap<String, V>>,
    /// Stands for the parameters in fingerprints.
    pub parameters_hash: u64,
    /// What people are told.
    pub resolution: Resolution,
    /// Why it can't be used.
    pub fault: Option<String>,
}

impl<V> Default for Worker<V> {
    fn default() -> Self {
        Self {
            pointer: None,
            floor: Capabilities::NONE,
            parameters: Arc::default(),
            parameters_hash: 0,
            resolution: Resolution::default(),
            fault: None,
        }
    }
}

impl<V> Worker<V> {
    /// What tells answers of one model, with the same parameters and policy, from all others: 16 hexadecimal digits.
    pub fn fingerprint(&self, identity: &str, policy: Policy) -> String {
        let policy = match policy {
            Policy::Static => 0,
            Policy::Dynamic => 1,
        };
        let bytes = identity.bytes().chain([policy]).chain(self.parameters_hash.to_le_bytes());
        format!("{:016x}", hash(bytes))
    }
}

impl<V: Clone + Display> Directory<V> {
    pub(super) fn add_workers(&mut self, declared: &Declared<V>) {
        let specs: BTreeMap<&str, &WorkerSpec<V>> =
            declared.workers.iter().map(|object| (object.name.as_str(), &object.spec)).collect();
        self.workers = specs.keys().map(|name| ((*name).to_owned(), Worker::default())).collect();
        let workers: Vec<_> =
            specs.iter().map(|(name, spec)| ((*name).to_owned(), self.worker(name, spec, &specs))).collect();
        self.workers = workers.into_iter().collect();
    }

    fn worker(&self, name: &str, spec: &WorkerSpec<V>, specs: &BTreeMap<&str, &WorkerSpec<V>>) -> Worker<V> {
        let text = spec.parameters.iter().flat_map(|(name, value)| format!("{name}={value}\n").into_bytes());
        let mut worker = Worker {
            floor: spec.floor,
            parameters: Arc::new(spec.parameters.clone()),
            parameters_hash: hash(text),
            ..Worker::default()
        };
        let found = self.follow(name, spec, specs, &mut worker.floor);
        let default = ("default".to_owned(), spec.model.clone());
        let set = spec.set.iter().map(|model| ("override".to_owned(), model.clone()));
        worker.resolution.policy = spec.policy;
        worker.resolution.metadata = [default].into_iter().chain(set).collect();
        match found.and_then(|(pointer, why)| Ok((self.resolved(&pointer, worker.floor)?, pointer, why))) {
            Ok(((model, reason, identity), pointer, why)) => {
                worker.resolution.resolved_model = model;
                worker.resolution.reason =
                    [why, reason].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(": ");
                worker.resolution.metadata.insert("identity".into(), identity);
                worker.pointer = Some(pointer);
            }
            Err(fault) => worker.fault = Some(fault),
        }
        worker
    }

    /// What a worker comes to, through other workers, whose demands hold, too; and why.
    fn follow(
        &self,
        name: &str,
        spec: &WorkerSpec<V>,
        specs: &BTreeMap<&str, &WorkerSpec<V>>,
        floor: &mut Capabilities,
    ) -> Result<(Pointer, String), String> {
        let (mut path, mut spec) = (vec![name.to_owned()], spec);
        loop {
            let pinned = spec.pinned.as_deref().filter(|_| spec.policy == Policy::Static);
            let wanted = pinned.unwrap_or_else(|| spec.wanted());
            let next = match self.pointer(wanted) {
                Ok(Pointer::Worker(next)) => next,
                Ok(pointer) => {
                    let why = match (pinned, &spec.set) {
                        (Some(_), _) => format!("static, resolved from {} before", spec.wanted()),
                        (None, Some(set)) => format!("set to {set}"),
                        (None, None) => spec.model.clone(),
                    };
                    return Ok((pointer, why));
                }
                Err(unknown) => return Err(unknown.to_string()),
            };
            let is_known = path.contains(&next);
            path.push(next.clone());
            if is_known {
                return Err(format!("the workers lead round in a circle: {}", path.join(" -> ")));
            }
            let Some(other) = specs.get(next.as_str()) else { return Err(format!("there is no worker {next}")) };
            spec = other;
            *floor = floor.and(spec.floor);
        }
    }

    /// The model that a pointer comes to by itself, with the reason and its identity.
    ///
    /// # Errors
    /// Why there is none.
    fn resolved(&self, pointer: &Pointer, floor: Capabilities) -> Result<(String, String, String), String> {
        if let Pointer::Chain(name) = pointer {
            return Ok((format!("chain/{name}"), "the chain decides for each request".into(), format!("chain/{name}")));
        }
        let way = self.ways(pointer, floor, |_| None).map_err(|none| none.to_string())?;
        let Some(first) = way.first() else { return Err("there is nothing to call".into()) };
        Ok((first.model.name.clone(), first.reason(), first.model.identity.clone()))
    }
}
