//! Which model of a profile with the objective `latency` goes first: by what this gateway measured itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use super::{
    meters::{ByModel, Models},
    task::Task,
};
use crate::{
    domain::directory::{Directory, HYSTERESIS, Place, Profile, fastest},
    ports::ChoiceStats,
    routing_table::Namespace,
};

/// A choice stands for so long at least, so that it is a look-up for most requests.
const STANDS: Duration = Duration::from_secs(1);
/// So many models are compared.
const COMPARED: usize = 16;

/// The choices made last, by profile.
#[derive(Default)]
pub struct Preferences(Mutex<HashMap<String, Choice>>);

struct Choice {
    model: Arc<str>,
    until: Instant,
}

impl Preferences {
    /// The place of the model that goes first in a profile.
    pub fn of(&self, task: Task, profile: &Profile<Value>, namespace: &Namespace, models: &Models) -> Option<u32> {
        let (directory, name) = (&namespace.directory, profile.name.as_str());
        let mut choices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let last = choices.get(name);
        let present = last.and_then(|last| directory.model(&last.model));
        if let Some(place) = present.filter(|_| last.is_some_and(|last| now < last.until)) {
            return Some(place);
        }
        let lead = profile.ranked.iter().take((profile.lead as usize).min(COMPARED)).copied();
        let measured: Vec<_> = lead.map(|place| (place, latency(directory, place, task, namespace, models))).collect();
        let chosen = fastest(present, &measured, profile.needs.hysteresis.unwrap_or(HYSTERESIS))?;
        let model = directory.models.get(chosen as usize)?.name.as_str().into();
        choices.insert(name.to_owned(), Choice { model, until: now + STANDS });
        Some(chosen)
    }

    /// The present choices, as far as the profiles are there and the models among their first ones.
    pub fn stats(&self, namespace: &Namespace) -> Vec<ChoiceStats> {
        let choices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = &namespace.directory;
        let stands = |profile: &Profile<Value>, choice: &Choice| {
            let lead = profile.ranked.iter().take(profile.lead as usize);
            directory.model(&choice.model).is_some_and(|place| lead.copied().any(|known| known == place))
        };
        let chosen = directory.profiles.iter().filter_map(|(name, profile)| {
            let choice = choices.get(&profile.name).filter(|choice| stands(profile, choice))?;
            Some(ChoiceStats { profile: name.clone(), model: choice.model.to_string() })
        });
        chosen.collect()
    }
}

fn latency(
    directory: &Directory<Value>,
    place: u32,
    task: Task,
    namespace: &Namespace,
    models: &Models,
) -> Option<f64> {
    let place = &directory.models.get(place as usize)?.place;
    let target = namespace.target(place)?;
    let requested = if let Place::Deployment(name) = place { name } else { &target.tag };
    models.latency(&ByModel::new(task, requested, &target.tag, target.version.as_deref()))
}
