//! Whose a bare name is.

use std::collections::BTreeMap;

use super::{Declared, Directory, Place};
use crate::domain::{
    model_name::ModelName,
    reference::{Kind, Reference},
};

/// Of objects of different kinds with one name, the oldest one has it; of two as old, the first in the order of kinds.
pub fn owners<V>(declared: &Declared<V>) -> BTreeMap<String, Kind> {
    let deployments = declared.deployments.iter().map(|object| (&object.name, object.since, Kind::Deployment));
    let chains = declared.chains.iter().map(|object| (&object.name, object.since, Kind::Chain));
    let profiles = declared.profiles.iter().map(|object| (&object.name, object.since, Kind::Profile));
    let workers = declared.workers.iter().map(|object| (&object.name, object.since, Kind::Worker));
    let mut owners = BTreeMap::new();
    for (name, since, kind) in deployments.chain(chains).chain(profiles).chain(workers) {
        let owner = owners.entry(name.clone()).or_insert((since, kind));
        *owner = (*owner).min((since, kind));
    }
    owners.into_iter().map(|(name, (_, kind))| (name, kind)).collect()
}

impl<V> Directory<V> {
    /// Whose a bare name is, if it is any object's. Built-in profiles have theirs only where no model has it.
    pub fn owner(&self, name: &str) -> Option<Kind> {
        self.names.get(name).copied()
    }

    /// The kind of the older object that has this object's bare name.
    pub fn clash(&self, kind: Kind, name: &str) -> Option<Kind> {
        self.owner(name).filter(|owner| *owner != kind)
    }

    /// The model that a reference names, if it names one.
    pub fn model(&self, reference: &str) -> Option<u32> {
        if let Some(place) = self.index.get(reference) {
            return Some(*place);
        }
        match Reference::parse(reference) {
            Reference::Bare(name) if self.owner(name) == Some(Kind::Deployment) => {
                self.index.get(&format!("deployment/{name}")).copied()
            }
            Reference::Bare(name) if self.owner(name).is_none() => {
                let full = name.parse::<ModelName>().ok()?.to_string().to_ascii_lowercase();
                let place = *self.index.get(&full)?;
                matches!(self.models[place as usize].place, Place::Tag(_)).then_some(place)
            }
            _ => None,
        }
    }

    /// The names that references can be made of, for suggestions.
    pub fn known_names(&self) -> impl Iterator<Item = &str> {
        let objects = self.chains.keys().chain(self.profiles.keys()).chain(self.workers.keys());
        let models = self.models.iter().map(|model| model.name.as_str());
        objects.map(String::as_str).chain(models)
    }
}
