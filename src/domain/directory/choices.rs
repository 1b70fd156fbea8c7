//! Which models profiles and `auto:TAG` stand for, in which order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Declared, Directory, Needs, Objective, Profile, ProfileSpec, builtin, eligible};
use crate::domain::{
    model_db::{Capabilities, Capability},
    reference::Reference,
};

/// The models in the order of each objective.
pub(super) type Orders = [(Objective, Vec<u32>); 3];

/// A list of places without repetitions.
struct Ranking {
    seen: Vec<bool>,
    ranked: Vec<u32>,
}

impl Ranking {
    fn add(&mut self, places: impl IntoIterator<Item = u32>) {
        for place in places {
            if !std::mem::replace(&mut self.seen[place as usize], true) {
                self.ranked.push(place);
            }
        }
    }
}

impl<V: Clone> Directory<V> {
    pub(super) fn add_profiles(&mut self, declared: &Declared<V>, orders: &Orders) {
        let builtin = builtin()
            .into_iter()
            .map(|(name, needs)| (name.to_owned(), ProfileSpec { needs, parameters: BTreeMap::new() }));
        let own = declared.profiles.iter().map(|object| (object.name.clone(), object.spec.clone()));
        let specs: BTreeMap<String, ProfileSpec<V>> = builtin.chain(own).collect();
        let chosen: Vec<_> =
            specs.iter().map(|(name, spec)| (name.clone(), self.choose(name, spec, &specs, None, orders))).collect();
        self.profiles = chosen.into_iter().collect();
    }

    pub(super) fn add_autos(&mut self, orders: &Orders) {
        let specs: BTreeMap<String, ProfileSpec<V>> = self
            .profiles
            .iter()
            .map(|(name, profile)| {
                let parameters = profile.parameters.as_ref().clone();
                (name.clone(), ProfileSpec { needs: profile.needs.clone(), parameters })
            })
            .collect();
        let builtin = builtin();
        let tags = Capability::ALL.iter().map(|capability| capability.name());
        let tags = tags.chain(builtin.iter().map(|(name, _)| *name)).chain(self.defaults.keys().map(String::as_str));
        let tags: BTreeSet<&str> =
            tags.chain(self.models.iter().flat_map(|model| model.tags.iter().map(String::as_str))).collect();
        let auto = |tag: &&str| {
            let profile = if *tag == "chat" { "general" } else { tag };
            let is_builtin = builtin.iter().any(|(name, _)| *name == profile);
            let spec = match (specs.get(profile).filter(|_| is_builtin), tag.parse::<Capability>()) {
                (Some(spec), _) => spec.clone(),
                (None, Ok(capability)) => of_needs(Needs { capabilities: vec![capability], ..Needs::default() }),
                (None, Err(_)) => of_needs(Needs { tags: vec![(*tag).to_owned()], ..Needs::default() }),
            };
            let default = self.defaults.get(*tag).map(String::as_str);
            ((*tag).to_owned(), self.choose(&format!("auto:{tag}"), &spec, &specs, default, orders))
        };
        self.autos = tags.iter().map(auto).collect();
    }

    /// The choice by a profile's needs; `default` goes before everything else if it can be used.
    fn choose(
        &self,
        name: &str,
        spec: &ProfileSpec<V>,
        specs: &BTreeMap<String, ProfileSpec<V>>,
        default: Option<&str>,
        orders: &Orders,
    ) -> Profile<V> {
        let ProfileSpec { needs, parameters } = spec;
        let mut ranking = Ranking { seen: vec![false; self.models.len()], ranked: Vec::new() };
        let mut notes = Vec::new();
        // What a model is made for is the word of whoever made it the default.
        let taken =
            Needs { capabilities: needs.floor().without(MADE_FOR).iter().collect(), tags: Vec::new(), ..needs.clone() };
        let named = default.map(|model| ("default", model, &taken)).into_iter();
        for (what, model, needs) in named.chain(needs.overrides.iter().map(|model| ("override", model.as_str(), needs)))
        {
            match self.usable(model, needs) {
                Ok(place) => ranking.add([place]),
                Err(why) => notes.push(format!("{what} {model}: {why}")),
            }
        }
        let named = ranking.ranked.len();
        let (own, lead) = eligible(needs, &self.models, in_order(needs, orders), Capabilities::NONE);
        ranking.add(own);
        let lead = if named > 0 { 1 } else { lead };
        let own = ranking.ranked.len();
        let fault = self.add_fallbacks(name, needs, specs, orders, &mut ranking, &mut notes);
        Profile {
            name: if is_auto(name) { name.to_owned() } else { format!("profile/{name}") },
            needs: needs.clone(),
            parameters: Arc::new(parameters.clone()),
            ranked: ranking.ranked,
            lead: u32::try_from(lead).unwrap_or(u32::MAX),
            own: u32::try_from(own).unwrap_or(u32::MAX),
            overrides: notes,
            fault,
        }
    }

    /// Adds the models of fallback profiles, which must do what those before them do.
    fn add_fallbacks(
        &self,
        name: &str,
        needs: &Needs,
        specs: &BTreeMap<String, ProfileSpec<V>>,
        orders: &Orders,
        ranking: &mut Ranking,
        notes: &mut Vec<String>,
    ) -> Option<String> {
        let (mut path, mut floor, mut needs) = (vec![name], needs.floor(), needs);
        while let Some(next) = &needs.fallback_profile {
            path.push(next);
            if path[..path.len() - 1].contains(&next.as_str()) {
                return Some(format!("fallbackProfile leads round in a circle: {}", path.join(" -> ")));
            }
            let Some(spec) = specs.get(next) else {
                notes.push(format!("fallbackProfile {next}: there is no such profile"));
                return None;
            };
            needs = &spec.needs;
            ranking.add(eligible(needs, &self.models, in_order(needs, orders), floor).0);
            floor = floor.and(needs.floor());
        }
        None
    }

    /// A model that is named, if it can be called and do what is needed.
    fn usable(&self, reference: &str, needs: &Needs) -> Result<u32, String> {
        let named = match Reference::parse(reference) {
            Reference::Auto(tag) => self.defaults.get(tag).map_or(reference, String::as_str),
            _ => reference,
        };
        let place = self.model(named).ok_or("there is no such model")?;
        let hindrances = needs.hindrances(&self.models[place as usize], Capabilities::NONE);
        let why: Vec<String> = hindrances.iter().map(ToString::to_string).collect();
        if why.is_empty() { Ok(place) } else { Err(why.join(", ")) }
    }
}

/// Whether this is a name of `auto:TAG`, which no object can have.
fn is_auto(name: &str) -> bool {
    name.starts_with("auto:")
}

/// What only people know of a model, no server.
const MADE_FOR: Capabilities = Capabilities::of(&[Capability::Code, Capability::Json]);

fn of_needs<V>(needs: Needs) -> ProfileSpec<V> {
    ProfileSpec { needs, parameters: BTreeMap::new() }
}

fn in_order<'o>(needs: &Needs, orders: &'o Orders) -> &'o [u32] {
    let order = orders.iter().find(|(objective, _)| *objective == needs.objective);
    order.map_or(&[], |(_, order)| order)
}
