//! What somebody declared, as a directory is made of it.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Failure, Model, Needs};
use crate::domain::model_db::Capabilities;

/// Everything that names can stand for. `V` is the value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared<V> {
    /// What requests can go to.
    pub models: Vec<Model>,
    /// The default model of each capability, and of `fast`.
    pub defaults: BTreeMap<String, String>,
    /// Deployments: their names.
    pub deployments: Vec<Object<()>>,
    /// Profiles.
    pub profiles: Vec<Object<ProfileSpec<V>>>,
    /// Chains.
    pub chains: Vec<Object<ChainSpec<V>>>,
    /// Workers.
    pub workers: Vec<Object<WorkerSpec<V>>>,
}

impl<V> Default for Declared<V> {
    fn default() -> Self {
        Self {
            models: Vec::new(),
            defaults: BTreeMap::new(),
            deployments: Vec::new(),
            profiles: Vec::new(),
            chains: Vec::new(),
            workers: Vec::new(),
        }
    }
}

/// An object with a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<T> {
    /// The name.
    pub name: String,
    /// Since when it is there: of two with one name, the older one has it.
    pub since: Option<Timestamp>,
    /// What it declares.
    pub spec: T,
}

/// A profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProfileSpec<V> {
    /// What its task needs.
    pub needs: Needs,
    /// What its models are called with.
    pub parameters: BTreeMap<String, V>,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChainSpec<V> {
    /// The steps in their order.
    pub steps: Vec<StepSpec<V>>,
    /// How long all of it may take.
    pub deadline: Option<Duration>,
    /// How many attempts it may make, over all steps.
    pub max_attempts: Option<u32>,
    /// What every step must be able to do.
    pub floor: Capabilities,
    /// What is wrong with it beyond what is seen here.
    pub fault: Option<String>,
}

/// A step of a chain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepSpec<V> {
    /// What is asked: a reference.
    pub target: String,
    /// The failures that leave it; none: all.
    pub on: Vec<Failure>,
    /// How long one attempt may take until its answer begins; where it is checked, until it is whole.
    pub timeout: Option<Duration>,
    /// How many more nodes may be asked when one fails; `None`: all that hold the model.
    pub retries: Option<u32>,
    /// What its model is called with.
    pub parameters: BTreeMap<String, V>,
    /// Whether those count more than the request's.
    pub force: bool,
    /// The JSON schema that its answer must keep to, whatever the request says.
    pub schema: Option<V>,
}

/// When a worker's model may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Policy {
    /// When its spec changes, or somebody sets another model.
    Static,
    /// Whenever another one is the better choice.
    #[default]
    Dynamic,
}

/// A worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerSpec<V> {
    /// The model that it asks for: a reference.
    pub model: String,
    /// The model that somebody set instead.
    pub set: Option<String>,
    /// When the model may change.
    pub policy: Policy,
    /// What the model must be able to do.
    pub floor: Capabilities,
    /// What it is called with.
    pub parameters: BTreeMap<String, V>,
    /// Of a static worker: what was resolved, for this very spec.
    pub pinned: Option<String>,
}

impl<V> WorkerSpec<V> {
    /// What it asks for now.
    pub fn wanted(&self) -> &str {
        self.set.as_deref().unwrap_or(&self.model)
    }
}
