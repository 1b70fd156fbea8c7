//! What every name that is no model's own stands for: profiles, chains, workers and `auto:TAG`, worked out once for all
//! requests. A request's way is then a few look-ups.
//!
//! [`Directory::new`] resolves what was declared; [`resolve`] reads it. Whatever can't be used is there, too, with the
//! reason.

mod agreement;
mod chain;
mod choices;
mod fallback;
mod model;
mod names;
mod profile;
mod resolve;
mod spec;
mod story;
mod why;
mod worker;

use std::{collections::BTreeMap, fmt::Display, sync::Arc};

use serde::{Deserialize, Serialize};

pub use self::{
    agreement::Agreement,
    chain::{Chain, ChainFault, MOST_ATTEMPTS, Step},
    fallback::{End, Failure, Outcome, Stop, leaves, walk},
    model::{Absence, Model, Place},
    profile::{HYSTERESIS, Lack, Needs, Objective, builtin, eligible, fastest, order},
    resolve::{NoTarget, Rejected, Unknown, Way},
    spec::{ChainSpec, Declared, Object, Policy, ProfileSpec, StepSpec, WorkerSpec},
    worker::{Resolution, Worker},
};
use super::reference::Kind;

/// What a name comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pointer {
    /// A model, by its place in the directory.
    Model(u32),
    /// A profile.
    Profile(String),
    /// The choice for a tag.
    Auto(String),
    /// A chain.
    Chain(String),
    /// A worker.
    Worker(String),
}

/// A profile as requests see it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile<V> {
    /// As a reference: `profile/NAME` or `auto:TAG`.
    pub name: String,
    /// What is needed.
    pub needs: Needs,
    /// What its models are called with.
    pub parameters: Arc<BTreeMap<String, V>>,
    /// The models that may answer, the best first, those of fallback profiles last.
    pub ranked: Vec<u32>,
    /// How many of the first ones are as dear as the first, but for their latency.
    pub lead: u32,
    /// How many of the first ones are its own, not a fallback profile's.
    pub own: u32,
    /// What became of overrides that have no effect.
    pub overrides: Vec<String>,
    /// What is wrong with it, so that it can't be used.
    pub fault: Option<String>,
}

/// Everything that names stand for, in one namespace. `V` is the value of a parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Directory<V> {
    /// What requests can go to, by name.
    pub models: Vec<Model>,
    /// Their places by reference and by full name.
    index: BTreeMap<String, u32>,
    /// Whose a bare name is.
    names: BTreeMap<String, Kind>,
    /// The default model of each capability, and of `fast`.
    pub defaults: BTreeMap<String, String>,
    /// Profiles, also built-in ones.
    pub profiles: BTreeMap<String, Profile<V>>,
    /// What `auto:TAG` stands for, by tag.
    pub autos: BTreeMap<String, Profile<V>>,
    /// Chains.
    pub chains: BTreeMap<String, Chain<V>>,
    /// Workers.
    pub workers: BTreeMap<String, Worker<V>>,
}

impl<V> Directory<V> {
    /// In which nothing is.
    pub const fn empty() -> Self {
        Self {
            models: Vec::new(),
            index: BTreeMap::new(),
            names: BTreeMap::new(),
            defaults: BTreeMap::new(),
            profiles: BTreeMap::new(),
            autos: BTreeMap::new(),
            chains: BTreeMap::new(),
            workers: BTreeMap::new(),
        }
    }
}

impl<V> Default for Directory<V> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<V: Clone + Display> Directory<V> {
    /// Works out what was declared.
    pub fn new(declared: &Declared<V>) -> Self {
        let mut directory = Self::with_models(declared);
        let orders = [Objective::Quality, Objective::Latency, Objective::Cost]
            .map(|objective| (objective, order(&directory.models, objective)));
        directory.add_profiles(declared, &orders);
        directory.add_autos(&orders);
        directory.chains = declared.chains.iter().map(|object| (object.name.clone(), Chain::default())).collect();
        directory.add_workers(declared);
        directory.add_chains(declared);
        directory
    }

    fn with_models(declared: &Declared<V>) -> Self {
        let mut models = declared.models.clone();
        models.sort_by(|a, b| a.name.cmp(&b.name));
        let mut index = BTreeMap::new();
        for (place, model) in (0..).zip(&models) {
            index.insert(model.name.clone(), place);
            if let Place::Tag(full) = &model.place {
                index.insert(full.clone(), place);
            }
        }
        Self { models, index, names: names::owners(declared), defaults: declared.defaults.clone(), ..Self::empty() }
    }
}
