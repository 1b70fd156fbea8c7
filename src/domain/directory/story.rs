//! The way from a name to models, told line by line.

use super::{Chain, Directory, Pointer, Profile, Step};
use crate::domain::model_db::Capabilities;

/// So many models that suit are named.
const NAMED: usize = 5;

/// Lines under one another; what is further in belongs to the line before.
struct Lines(Vec<String>);

impl Lines {
    fn add(&mut self, depth: usize, text: impl AsRef<str>) {
        self.0.push(format!("{}{}", "  ".repeat(depth), text.as_ref()));
    }
}

impl<V> Directory<V> {
    /// How a request for `pointer` that needs what is in `floor` is resolved: profiles with every candidate and why it is
    /// taken or not, the steps of chains, what workers ask for.
    pub fn story(&self, pointer: &Pointer, floor: Capabilities) -> Vec<String> {
        let mut lines = Lines(Vec::new());
        self.tell(pointer, floor, 0, &mut lines);
        lines.0
    }

    fn tell(&self, pointer: &Pointer, floor: Capabilities, depth: usize, lines: &mut Lines) {
        match pointer {
            Pointer::Model(place) => {
                if let Some(model) = self.models.get(*place as usize) {
                    let state = model.absence.as_ref().map_or("can be called", |absence| absence.why());
                    lines.add(depth, format!("model {} ({}): {state}", model.name, model.capabilities));
                }
            }
            Pointer::Profile(name) => {
                let profile = self.profiles.get(name);
                profile
                    .into_iter()
                    .for_each(|profile| self.tell_profile(&format!("profile {name}"), profile, floor, depth, lines));
            }
            Pointer::Auto(tag) => {
                let auto = self.autos.get(tag);
                auto.into_iter().for_each(|auto| self.tell_profile(&format!("auto:{tag}"), auto, floor, depth, lines));
            }
            Pointer::Chain(name) => {
                self.chains.get(name).into_iter().for_each(|chain| self.tell_chain(name, chain, floor, depth, lines));
            }
            Pointer::Worker(name) => {
                let Some(worker) = self.workers.get(name) else { return };
                let asked = worker.resolution.metadata.get("override").or(worker.resolution.metadata.get("default"));
                let asked = asked.map_or("", String::as_str);
                let why = worker.fault.as_deref().unwrap_or(&worker.resolution.reason);
                lines.add(depth, format!("worker {name} ({:?}) asks for {asked}: {why}", worker.resolution.policy));
                if let Some(pointer) = &worker.pointer {
                    self.tell(pointer, floor.and(worker.floor), depth + 1, lines);
                }
            }
        }
    }

    fn tell_profile(&self, what: &str, profile: &Profile<V>, floor: Capabilities, depth: usize, lines: &mut Lines) {
        let needed = profile.needs.floor().and(floor);
        let needs = if needed.is_empty() { "anything".to_owned() } else { needed.to_string() };
        lines.add(depth, format!("{what}: needs {needs}; objective {:?}", profile.needs.objective).to_lowercase());
        profile.fault.iter().chain(&profile.overrides).for_each(|note| lines.add(depth + 1, note));
        let can = |place: &&u32| {
            let model = &self.models[**place as usize];
            floor.without(model.capabilities).is_empty()
        };
        let suits: Vec<&str> =
            profile.ranked.iter().filter(can).map(|place| self.models[*place as usize].name.as_str()).collect();
        let more = suits.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let named = suits[..suits.len().min(NAMED)].join(", ");
        lines.add(depth + 1, if suits.is_empty() { "no model suits".into() } else { format!("suits: {named}{more}") });
        for rejected in self.rejected(profile, floor) {
            lines.add(depth + 1, format!("not {rejected}"));
        }
    }

    fn tell_chain(&self, name: &str, chain: &Chain<V>, floor: Capabilities, depth: usize, lines: &mut Lines) {
        let floor = floor.and(chain.floor);
        let within = chain.deadline.map_or(String::new(), |deadline| format!(" within {deadline:?}"));
        lines.add(depth, format!("chain {name}: at most {} attempts{within}", chain.max_attempts));
        if let Some(fault) = &chain.fault {
            lines.add(depth + 1, format!("not served: {fault}"));
        }
        for (at, step) in (1..).zip(&chain.steps) {
            lines.add(depth + 1, format!("step {at}: {}, left on {}", step.target, left_on(step)));
            self.tell(&step.pointer, floor.and(step.floor), depth + 2, lines);
        }
    }
}

fn left_on<V>(step: &Step<V>) -> String {
    let failures: Vec<String> = step.on.iter().map(ToString::to_string).collect();
    if failures.is_empty() { "any failure".into() } else { failures.join(", ") }
}
