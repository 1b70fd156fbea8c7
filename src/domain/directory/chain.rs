//! Which models the steps of chains stand for, and which chains are refused.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Absence, ChainSpec, Declared, Directory, Failure, Pointer, StepSpec};
use crate::domain::{
    model_db::{Capabilities, Capability},
    reference::Reference,
};

/// How many attempts a chain makes that doesn't say so.
pub const MOST_ATTEMPTS: u32 = 5;
/// How many steps a chain has at most, those of chains within it among them.
const MOST_STEPS: usize = 64;
/// What a chain that began with it never does without.
const NEVER_LOST: Capabilities = Capabilities::of(&[Capability::Vision, Capability::Embedding]);

/// A chain as requests see it, chains within it laid out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chain<V> {
    /// The steps in their order.
    pub steps: Vec<Step<V>>,
    /// How long all of it may take.
    pub deadline: Option<Duration>,
    /// How many attempts it may make.
    pub max_attempts: u32,
    /// What every step must be able to do.
    pub floor: Capabilities,
    /// Why it is not served.
    pub fault: Option<ChainFault>,
}

impl<V> Default for Chain<V> {
    fn default() -> Self {
        Self { steps: Vec::new(), deadline: None, max_attempts: MOST_ATTEMPTS, floor: Capabilities::NONE, fault: None }
    }
}

/// A step as requests see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step<V> {
    /// What was declared.
    pub target: String,
    /// What that points to: never a chain or a worker.
    pub pointer: Pointer,
    /// The worker that it was declared by.
    pub worker: Option<String>,
    /// What the model must be able to do.
    pub floor: Capabilities,
    /// The failures that leave it; none: all.
    pub on: Vec<Failure>,
    /// How long one attempt may take until its answer begins.
    pub timeout: Option<Duration>,
    /// How many more nodes may be asked when one fails.
    pub retries: Option<u32>,
    /// What its model is called with.
    pub parameters: Arc<BTreeMap<String, V>>,
    /// Whether those count more than the request's.
    pub force: bool,
    /// The JSON schema that its answer must keep to.
    pub schema: Option<V>,
}

/// Why a chain is not served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChainFault {
    /// It has no step.
    Empty,
    /// It leads back to itself.
    Cycle(Vec<String>),
    /// With the chains within it, it has too many steps.
    TooLong,
    /// A step's target is not there.
    TargetMissing(String),
    /// Its spec can't be meant.
    InvalidSpec(String),
    /// No node has a step's model.
    TargetNotPulled(String),
    /// A step can do less than the chain must.
    CapabilityLost(String),
}

impl ChainFault {
    /// For programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Cycle(_) => "Cycle",
            Self::TooLong => "TooLong",
            Self::TargetMissing(_) => "TargetMissing",
            Self::InvalidSpec(_) => "InvalidSpec",
            Self::TargetNotPulled(_) => "TargetNotPulled",
            Self::CapabilityLost(_) => "CapabilityLost",
        }
    }
}

impl fmt::Display for ChainFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it has no steps: name at least one target in spec.steps"),
            Self::Cycle(path) => write!(f, "it leads round in a circle: {}", path.join(" -> ")),
            Self::TooLong => write!(f, "with the chains within it, it has more than {MOST_STEPS} steps"),
            Self::TargetMissing(why)
            | Self::InvalidSpec(why)
            | Self::TargetNotPulled(why)
            | Self::CapabilityLost(why) => f.write_str(why),
        }
    }
}

type Specs<'s, V> = BTreeMap<&'s str, &'s ChainSpec<V>>;

impl<V: Clone> Directory<V> {
    pub(super) fn add_chains(&mut self, declared: &Declared<V>) {
        let specs: Specs<'_, V> = declared.chains.iter().map(|object| (object.name.as_str(), &object.spec)).collect();
        let chains: Vec<_> =
            specs.iter().map(|(name, spec)| ((*name).to_owned(), self.chain(name, spec, &specs))).collect();
        self.chains = chains.into_iter().collect();
    }

    fn chain(&self, name: &str, spec: &ChainSpec<V>, specs: &Specs<'_, V>) -> Chain<V> {
        let laid_out = self.lay_out(spec, specs, &mut vec![name.to_owned()]);
        let checked = laid_out.and_then(|steps| Ok((self.floor(spec.floor, &steps)?, steps)));
        let (floor, steps, fault) = match checked {
            Ok((floor, steps)) => (floor, steps, None),
            Err(fault) => (spec.floor, Vec::new(), Some(fault)),
        };
        let max_attempts = spec.max_attempts.unwrap_or(MOST_ATTEMPTS);
        Chain { steps, deadline: spec.deadline, max_attempts, floor, fault }
    }

    /// The steps of a chain, those of chains within it among them. `path` is how it was come to.
    fn lay_out(
        &self,
        spec: &ChainSpec<V>,
        specs: &Specs<'_, V>,
        path: &mut Vec<String>,
    ) -> Result<Vec<Step<V>>, ChainFault> {
        if let Some(fault) = &spec.fault {
            return Err(ChainFault::InvalidSpec(fault.clone()));
        }
        if spec.steps.is_empty() {
            return Err(ChainFault::Empty);
        }
        let mut all = Vec::new();
        for (at, declared) in spec.steps.iter().enumerate() {
            let (pointer, worker, floor) = self.target(declared, at)?;
            if let Pointer::Chain(inner) = &pointer {
                let is_known = path.contains(inner);
                path.push(inner.clone());
                let Some(spec) = specs.get(inner.as_str()).filter(|_| !is_known) else {
                    return Err(ChainFault::Cycle(path.clone()));
                };
                let mut steps = self.lay_out(spec, specs, path)?;
                path.pop();
                within(&mut steps, declared, spec.floor.and(floor), worker.as_ref());
                all.append(&mut steps);
            } else {
                all.push(step(declared, pointer, worker, floor));
            }
            if all.len() > MOST_STEPS {
                return Err(ChainFault::TooLong);
            }
        }
        Ok(all)
    }

    /// What a step points to, by which worker, and what the model must be able to do for it.
    fn target(&self, step: &StepSpec<V>, at: usize) -> Result<(Pointer, Option<String>, Capabilities), ChainFault> {
        let (target, step) = (&step.target, at + 1);
        let pointer = self.pointer(target).map_err(|unknown| match Reference::parse(target) {
            Reference::Bare(name) if self.owner(name).is_none() => ChainFault::TargetNotPulled(format!(
                "step {step}: {unknown}, and no node has such a model: pull it first"
            )),
            _ => ChainFault::TargetMissing(format!("step {step}: {unknown}")),
        })?;
        match pointer {
            Pointer::Model(place) => match &self.models[place as usize].absence {
                Some(Absence::NotPulled(why)) => {
                    Err(ChainFault::TargetNotPulled(format!("step {step}: {target}: {why}")))
                }
                _ => Ok((pointer, None, Capabilities::NONE)),
            },
            Pointer::Worker(name) => {
                let worker = self.workers.get(&name);
                let found = worker.and_then(|worker| Some((worker.pointer.clone()?, worker.floor)));
                let fault = || worker.and_then(|worker| worker.fault.as_deref()).unwrap_or("it comes to nothing");
                let Some((pointer, floor)) = found else {
                    return Err(ChainFault::TargetMissing(format!("step {step}: worker {name}: {}", fault())));
                };
                Ok((pointer, Some(name), floor))
            }
            Pointer::Profile(ref name) => match self.profiles.get(name).and_then(|profile| profile.fault.as_ref()) {
                Some(fault) => Err(ChainFault::TargetMissing(format!("step {step}: profile {name}: {fault}"))),
                None => Ok((pointer, None, Capabilities::NONE)),
            },
            Pointer::Auto(_) | Pointer::Chain(_) => Ok((pointer, None, Capabilities::NONE)),
        }
    }

    /// What every step must be able to do.
    ///
    /// # Errors
    /// That one can't.
    fn floor(&self, declared: Capabilities, steps: &[Step<V>]) -> Result<Capabilities, ChainFault> {
        let first = steps.first().map_or(Capabilities::NONE, |step| self.promised(&step.pointer));
        let floor = declared.and(first.in_both(NEVER_LOST));
        for (at, step) in steps.iter().enumerate() {
            let Pointer::Model(place) = step.pointer else { continue };
            let model = &self.models[place as usize];
            let lost = floor.and(step.floor).without(model.capabilities);
            if !lost.is_empty() {
                let (at, target) = (at + 1, &step.target);
                return Err(ChainFault::CapabilityLost(format!(
                    "step {at}: {target} lacks {lost}, which the chain needs"
                )));
            }
        }
        Ok(floor)
    }

    /// What whatever a pointer comes to is able to do.
    fn promised(&self, pointer: &Pointer) -> Capabilities {
        match pointer {
            Pointer::Model(place) => self.models[*place as usize].capabilities,
            Pointer::Profile(name) => self.profiles.get(name).map(|profile| profile.needs.floor()).unwrap_or_default(),
            Pointer::Auto(tag) => self.autos.get(tag).map(|auto| auto.needs.floor()).unwrap_or_default(),
            Pointer::Chain(_) | Pointer::Worker(_) => Capabilities::NONE,
        }
    }
}

fn step<V: Clone>(declared: &StepSpec<V>, pointer: Pointer, worker: Option<String>, floor: Capabilities) -> Step<V> {
    let StepSpec { target, on, timeout, retries, parameters, force, schema } = declared.clone();
    Step { target, pointer, worker, floor, on, timeout, retries, parameters: Arc::new(parameters), force, schema }
}

/// Has the steps of a chain stand for one step of another one: what that says holds for them, too, and what leaves it
/// leaves the last of them.
fn within<V: Clone>(steps: &mut [Step<V>], outer: &StepSpec<V>, floor: Capabilities, worker: Option<&String>) {
    for step in steps.iter_mut() {
        step.floor = step.floor.and(floor);
        step.timeout = [step.timeout, outer.timeout].into_iter().flatten().min();
        step.retries = [step.retries, outer.retries].into_iter().flatten().min();
        step.worker = step.worker.take().or_else(|| worker.cloned());
        step.schema = step.schema.take().or_else(|| outer.schema.clone());
        step.force |= outer.force;
        let parameters = Arc::make_mut(&mut step.parameters);
        for (name, value) in &outer.parameters {
            parameters.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    if let Some(last) = steps.last_mut() {
        last.on.clone_from(&outer.on);
    }
}
