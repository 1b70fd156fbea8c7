//! `drover chain lint`: chains in files, looked at without a cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use kube::{Resource, ResourceExt};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    api::{FallbackChain, RoutingProfile, Worker},
    domain::{
        directory::{ChainSpec, Declared, Directory, Model, Object, Place, ProfileSpec, StepSpec, WorkerSpec},
        model_db::{Capabilities, Capability},
        reference::{Kind, Reference},
    },
    routing_table::directory::chain,
};

/// What stands for everything that a file names and none declares.
const STAND_IN: &str = "provider/elsewhere/model";

/// What the files declare.
#[derive(Default)]
struct Files {
    chains: Vec<FallbackChain>,
    profiles: Vec<RoutingProfile>,
    workers: Vec<Worker>,
}

/// Prints what is wrong with the chains of these files, a line each.
///
/// # Errors
/// That anything is, or that a file can't be read.
pub fn run(files: &[PathBuf]) -> Result<(), String> {
    let mut all = Files::default();
    for file in files {
        all.read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let (faults, count) = (all.faults(), all.chains.len());
    faults.iter().for_each(|fault| println!("{fault}"));
    match faults.len() {
        0 => {
            println!("chains that are fine: {count}");
            Ok(())
        }
        bad => Err(format!("chains with faults: {bad} of {count}")),
    }
}

impl Files {
    fn read(&mut self, file: &Path) -> Result<(), String> {
        let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
        for document in serde_yaml::Deserializer::from_str(&text) {
            let value = Value::deserialize(document).map_err(|error| error.to_string())?;
            match value["kind"].as_str() {
                Some("FallbackChain") => self.chains.push(object(value)?),
                Some("RoutingProfile") => self.profiles.push(object(value)?),
                Some("Worker") => self.workers.push(object(value)?),
                _ => {}
            }
        }
        Ok(())
    }

    fn faults(&self) -> Vec<String> {
        let directory = Directory::new(&self.declared());
        let mut faults = Vec::new();
        for object in &self.chains {
            let name = object.name_any();
            let unclear = (1..).zip(&object.spec.steps).find(|(_, step)| step.target.named() != 1);
            let fault = directory.chains.get(&name).and_then(|chain| chain.fault.as_ref());
            match (unclear, fault) {
                (Some((at, _)), _) => faults.push(format!(
                    "{name}: InvalidSpec: step {at}: name exactly one of model, deployment, profile, chain, worker and provider"
                )),
                (None, Some(fault)) => faults.push(format!("{name}: {}: {fault}", fault.reason())),
                (None, None) => {}
            }
        }
        faults
    }

    /// What the files declare, and something that can do everything for each name that they don't.
    fn declared(&self) -> Declared<Value> {
        let chains = self.chains.iter().map(|object| named(&object.name_any(), chain(&object.spec)));
        let workers = self.workers.iter().map(|object| named(&object.name_any(), object.declared()));
        let profiles = self.profiles.iter().map(|object| {
            let spec = ProfileSpec { needs: object.spec.needs.clone(), parameters: BTreeMap::new() };
            named(&object.name_any(), spec)
        });
        let mut declared: Declared<Value> = Declared {
            chains: chains.collect(),
            workers: workers.collect(),
            profiles: profiles.collect(),
            ..Declared::default()
        };
        let steps = declared.chains.iter().flat_map(|chain| chain.spec.steps.iter().map(|step| step.target.clone()));
        let wanted = declared.workers.iter().map(|worker| worker.spec.wanted().to_owned());
        let names: BTreeSet<String> = steps.chain(wanted).collect();
        declared.models.push(model(STAND_IN));
        names.iter().for_each(|name| stand_in(&mut declared, name));
        declared
    }
}

fn object<K: Resource<DynamicType = ()> + DeserializeOwned>(value: Value) -> Result<K, String> {
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    serde_json::from_value(value).map_err(|error| format!("{} {name}: {error}", K::kind(&())))
}

fn named<T>(name: &str, spec: T) -> Object<T> {
    Object { name: name.into(), since: None, spec }
}

fn is_named<T>(objects: &[Object<T>], name: &str) -> bool {
    objects.iter().any(|object| object.name == name)
}

/// Has something answer to a reference that nothing in the files does.
fn stand_in(declared: &mut Declared<Value>, reference: &str) {
    let to_model = || STAND_IN.to_owned();
    match Reference::parse(reference) {
        Reference::Object(Kind::Chain, name) if !is_named(&declared.chains, name) => {
            let step = StepSpec { target: to_model(), ..StepSpec::default() };
            declared.chains.push(named(name, ChainSpec { steps: vec![step], ..ChainSpec::default() }));
        }
        Reference::Object(Kind::Profile, name) if !is_named(&declared.profiles, name) => {
            declared.profiles.push(named(name, ProfileSpec { needs: Default::default(), parameters: BTreeMap::new() }));
        }
        Reference::Object(Kind::Worker, name) if !is_named(&declared.workers, name) => {
            declared.workers.push(named(name, WorkerSpec { model: to_model(), ..WorkerSpec::default() }));
        }
        Reference::Auto(tag) => {
            declared.models.iter_mut().for_each(|model| model.tags.push(tag.to_owned()));
        }
        Reference::Object(Kind::Deployment, _) | Reference::Provider { .. } => declared.models.push(model(reference)),
        Reference::Bare(name) => {
            let lists = [
                is_named(&declared.chains, name),
                is_named(&declared.profiles, name),
                is_named(&declared.workers, name),
            ];
            if !lists.contains(&true) {
                declared.models.push(model(reference));
            }
        }
        Reference::Object(..) => {}
    }
}

/// A model that can do everything.
fn model(name: &str) -> Model {
    Model {
        name: name.into(),
        place: Place::Tag(name.into()),
        families: Vec::new(),
        context_length: u64::MAX,
        capabilities: Capabilities::of(&Capability::ALL),
        parameters: None,
        bits: None,
        tags: Vec::new(),
        price: None,
        identity: name.into(),
        absence: None,
    }
}
