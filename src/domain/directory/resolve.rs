//! From a reference to the models that a request goes to.

use std::{fmt, slice};

use super::{
    Chain, Directory, Lack, Model, Needs, Objective, Place, Pointer, Profile, Step, Worker,
    why::{Chooser, Why},
};
use crate::domain::{
    model_db::Capabilities,
    reference::{Kind, Reference, nearest},
};

/// So many models of a profile are tried, one after the other.
const TRIES: usize = 3;

/// A model that a request may go to, and by which way it was found. `V` is the value of a parameter.
#[derive(Clone, Debug)]
pub struct Way<'d, V> {
    /// The model.
    pub model: &'d Model,
    /// Its place in the directory.
    pub place: u32,
    /// Why this one.
    why: Why<'d>,
    /// The step of a chain that names it, and which one that is.
    pub step: Option<(usize, &'d Step<V>)>,
    /// That chain.
    pub chain: Option<&'d Chain<V>>,
    /// The worker that asks.
    pub worker: Option<&'d Worker<V>>,
    /// The profile that chose it.
    pub profile: Option<&'d Profile<V>>,
}

impl<V> Way<'_, V> {
    /// Why this model, in words.
    pub fn reason(&self) -> String {
        self.why.tell(self.model, self.place, self.profile)
    }
}

/// A reference that stands for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The reference.
    pub reference: String,
    /// Names that are like it, the likest first.
    pub nearest: Vec<String>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing is called {:?} here", self.reference)?;
        if self.nearest.is_empty() { Ok(()) } else { write!(f, "; did you mean {}?", self.nearest.join(", ")) }
    }
}

/// A model that is not taken, and what it lacks.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// The model.
    pub model: String,
    /// What it lacks.
    pub lacks: Vec<Lack>,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lacks: Vec<String> = self.lacks.iter().map(ToString::to_string).collect();
        write!(f, "{}: {}", self.model, lacks.join(", "))
    }
}

/// There is nothing to call.
#[derive(Clone, Debug, PartialEq)]
pub struct NoTarget {
    /// Who found nothing, and why.
    pub what: String,
    /// Every candidate, and what it lacks.
    pub rejected: Vec<Rejected>,
}

impl fmt::Display for NoTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        let rejected: Vec<String> = self.rejected.iter().map(ToString::to_string).collect();
        if rejected.is_empty() { Ok(()) } else { write!(f, ": {}", rejected.join("; ")) }
    }
}

impl<V> Directory<V> {
    /// What a reference points to.
    ///
    /// # Errors
    /// That there is no such thing, with names that are like it.
    pub fn pointer(&self, reference: &str) -> Result<Pointer, Unknown> {
        let of_kind = |kind, name: &str| match kind {
            Kind::Deployment => self.model(&format!("deployment/{name}")).map(Pointer::Model),
            Kind::Chain => self.chains.contains_key(name).then(|| Pointer::Chain(name.into())),
            Kind::Profile => self.profiles.contains_key(name).then(|| Pointer::Profile(name.into())),
            Kind::Worker => self.workers.contains_key(name).then(|| Pointer::Worker(name.into())),
        };
        let found = match Reference::parse(reference) {
            Reference::Object(kind, name) => of_kind(kind, name),
            Reference::Auto(tag) => self.autos.contains_key(tag).then(|| Pointer::Auto(tag.into())),
            Reference::Provider { .. } => self.model(reference).map(Pointer::Model),
            Reference::Bare(name) => match self.owner(name) {
                Some(kind) => of_kind(kind, name),
                None => self.model(name).map(Pointer::Model).or_else(|| of_kind(Kind::Profile, name)),
            },
        };
        found.ok_or_else(|| self.unknown(reference))
    }

    /// That there is no such thing.
    pub fn unknown(&self, reference: &str) -> Unknown {
        let near = match Reference::parse(reference) {
            Reference::Auto(tag) => nearest(tag, self.autos.keys().map(String::as_str))
                .into_iter()
                .map(|tag| format!("auto:{tag}"))
                .collect(),
            Reference::Object(kind, name) => {
                let near = |names: Vec<&str>| names.into_iter().map(|name| format!("{kind}/{name}")).collect();
                match kind {
                    Kind::Chain => near(nearest(name, self.chains.keys().map(String::as_str))),
                    Kind::Profile => near(nearest(name, self.profiles.keys().map(String::as_str))),
                    Kind::Worker => near(nearest(name, self.workers.keys().map(String::as_str))),
                    Kind::Deployment => {
                        let names = self.models.iter().filter_map(|model| match &model.place {
                            Place::Deployment(name) => Some(name.as_str()),
                            Place::Tag(_) | Place::Offer { .. } => None,
                        });
                        near(nearest(name, names))
                    }
                }
            }
            _ => nearest(reference, self.known_names()).into_iter().map(str::to_owned).collect(),
        };
        Unknown { reference: reference.into(), nearest: near }
    }

    /// Whether all models that a request for `pointer` could go to, whatever it needs, are fit; `None` when there are none.
    pub fn all_fit(&self, pointer: &Pointer, is_fit: &impl Fn(&Model) -> bool) -> Option<bool> {
        let places = match pointer {
            Pointer::Model(place) => slice::from_ref(place),
            Pointer::Profile(name) => &self.profiles.get(name)?.ranked,
            Pointer::Auto(tag) => &self.autos.get(tag)?.ranked,
            Pointer::Chain(name) => {
                let mut steps =
                    self.chains.get(name)?.steps.iter().filter_map(|step| self.all_fit(&step.pointer, is_fit));
                return steps.next().map(|first| first && steps.all(|fit| fit));
            }
            Pointer::Worker(name) => return self.all_fit(self.workers.get(name)?.pointer.as_ref()?, is_fit),
        };
        let mut models = places.iter().filter_map(|place| self.models.get(*place as usize));
        models.next().map(|first| is_fit(first) && models.all(is_fit))
    }

    /// The models that a request for `pointer` goes to, one after the other, none twice; every one of them can do what is in
    /// `floor`. `prefer` says which of the leading models of a profile goes first, where something but its order decides.
    ///
    /// # Errors
    /// That there is none: every candidate and what it lacks, or why nothing can be called.
    pub fn ways<'d>(
        &'d self,
        pointer: &Pointer,
        floor: Capabilities,
        prefer: impl Fn(&'d Profile<V>) -> Option<u32> + Copy,
    ) -> Result<Vec<Way<'d, V>>, NoTarget> {
        match pointer {
            Pointer::Model(place) => self.of_model(*place, floor).map(|way| vec![way]),
            Pointer::Profile(name) => {
                let found = self.profiles.get_key_value(name);
                let (name, profile) = found.ok_or_else(|| gone(&format!("profile {name}")))?;
                self.of_profile(Chooser::Profile(name), profile, floor, prefer)
            }
            Pointer::Auto(tag) => {
                let (tag, profile) = self.autos.get_key_value(tag).ok_or_else(|| gone(&format!("auto:{tag}")))?;
                self.of_profile(Chooser::Auto(tag), profile, floor, prefer)
            }
            Pointer::Chain(name) => {
                let found = self.chains.get_key_value(name);
                let (name, chain) = found.ok_or_else(|| gone(&format!("chain {name}")))?;
                self.of_chain(name, chain, floor, prefer)
            }
            Pointer::Worker(name) => {
                let found = self.workers.get_key_value(name);
                let (name, worker) = found.ok_or_else(|| gone(&format!("worker {name}")))?;
                let Some(pointer) = worker.pointer.as_ref() else {
                    let why = worker.fault.as_deref().unwrap_or("it comes to nothing");
                    return Err(nothing(format!("worker {name} can't be used: {why}")));
                };
                let mut ways = self.ways(pointer, floor.and(worker.floor), prefer)?;
                for way in &mut ways {
                    way.worker = way.worker.or(Some(worker));
                    way.why.worker = Some(name);
                }
                Ok(ways)
            }
        }
    }

    fn of_model(&self, place: u32, floor: Capabilities) -> Result<Way<'_, V>, NoTarget> {
        let Some(model) = self.models.get(place as usize) else { return Err(gone("the model")) };
        let lacks = Needs::default().hindrances(model, floor);
        if lacks.is_empty() {
            return Ok(Way { model, place, why: Why::default(), step: None, chain: None, worker: None, profile: None });
        }
        let rejected = vec![Rejected { model: model.name.clone(), lacks }];
        Err(NoTarget { what: format!("{} can't be used", model.name), rejected })
    }

    fn of_profile<'d>(
        &'d self,
        what: Chooser<'d>,
        profile: &'d Profile<V>,
        floor: Capabilities,
        prefer: impl Fn(&'d Profile<V>) -> Option<u32>,
    ) -> Result<Vec<Way<'d, V>>, NoTarget> {
        if let Some(fault) = &profile.fault {
            return Err(nothing(format!("{what} can't be used: {fault}")));
        }
        let can = |place: &u32| floor.without(self.models[*place as usize].capabilities).is_empty();
        let lead = profile.ranked.iter().take(profile.lead as usize);
        let is_measured = profile.needs.objective == Objective::Latency && profile.lead > 1;
        let preferred = is_measured.then(|| prefer(profile)).flatten();
        let preferred = preferred.filter(|place| lead.clone().any(|known| known == place)).filter(can);
        let others = profile.ranked.iter().copied().filter(|place| Some(*place) != preferred && can(place));
        let chosen: Vec<u32> = preferred.into_iter().chain(others).take(TRIES).collect();
        if chosen.is_empty() {
            let rejected = self.rejected(profile, floor);
            return Err(NoTarget { what: format!("{what}: no model suits"), rejected });
        }
        let way = |place: u32| {
            let model = &self.models[place as usize];
            let why = Why { chooser: Some(what), is_fastest: Some(place) == preferred, ..Why::default() };
            Way { model, place, why, step: None, chain: None, worker: None, profile: Some(profile) }
        };
        Ok(chosen.into_iter().map(way).collect())
    }

    /// Every model that a profile does not stand for, and what it lacks.
    pub fn rejected(&self, profile: &Profile<V>, floor: Capabilities) -> Vec<Rejected> {
        let lacking = self.models.iter().map(|model| (model, profile.needs.lacks(model, floor)));
        let lacking = lacking.filter(|(_, lacks)| !lacks.is_empty());
        lacking.map(|(model, lacks)| Rejected { model: model.name.clone(), lacks }).collect()
    }

    fn of_chain<'d>(
        &'d self,
        name: &'d str,
        chain: &'d Chain<V>,
        floor: Capabilities,
        prefer: impl Fn(&'d Profile<V>) -> Option<u32> + Copy,
    ) -> Result<Vec<Way<'d, V>>, NoTarget> {
        if let Some(fault) = &chain.fault {
            return Err(nothing(format!("chain {name} is not served: {fault}")));
        }
        let (mut ways, mut rejected): (Vec<Way<'d, V>>, Vec<Rejected>) = (Vec::new(), Vec::new());
        let count = chain.steps.len();
        for (at, step) in chain.steps.iter().enumerate() {
            let found = match self.ways(&step.pointer, floor.and(chain.floor).and(step.floor), prefer) {
                Ok(found) => found,
                Err(none) if none.rejected.is_empty() => {
                    rejected.push(Rejected { model: step.target.clone(), lacks: vec![Lack::Absent(none.what)] });
                    continue;
                }
                Err(none) => {
                    rejected.extend(none.rejected);
                    continue;
                }
            };
            for way in found {
                if ways.iter().any(|known| known.place == way.place) {
                    continue;
                }
                let worker = step.worker.as_ref().and_then(|worker| self.workers.get(worker));
                let why = Why { step: Some((name, at + 1, count)), ..way.why };
                ways.push(Way { why, step: Some((at, step)), chain: Some(chain), worker, ..way });
            }
        }
        if ways.is_empty() {
            return Err(NoTarget { what: format!("chain {name}: no step can be called"), rejected });
        }
        Ok(ways)
    }
}

fn gone(what: &str) -> NoTarget {
    nothing(format!("{what} is not there"))
}

fn nothing(what: String) -> NoTarget {
    NoTarget { what, rejected: Vec::new() }
}
