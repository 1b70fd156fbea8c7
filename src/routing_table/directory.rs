//! From objects and what is served to what names stand for: pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::ResourceExt;
use serde_json::Value;

use super::{Namespace, Target, compile::Objects};
use crate::{
    api::{self, ModelCatalog, OllamaNode, ProviderModel},
    domain::{
        alias::is_alias,
        directory::{Absence, ChainSpec, Declared, Directory, Model, Object, Place, ProfileSpec},
        model_db::{Catalogue, Conflict, Known, last_part},
        model_name::ModelName,
        node::NodeModel,
        provider,
    },
};

/// Catalogues, and what of each has no effect.
pub type Conflicts = Vec<(Arc<ModelCatalog>, Vec<String>)>;

/// The catalogue of a namespace: what its objects say, the oldest ones first, over what is built in. With it what has no
/// effect, by object.
pub fn catalogue(objects: &[Arc<ModelCatalog>], namespace: &str) -> (Catalogue<Value>, Conflicts) {
    let own = objects.iter().filter(|object| object.namespace().as_deref() == Some(namespace));
    let mut own: Vec<_> = own.filter(|object| object.metadata.deletion_timestamp.is_none()).cloned().collect();
    own.sort_by_key(|object| object.seniority());
    let layers: Vec<_> = own.iter().map(|object| object.layer()).collect();
    let (catalogue, conflicts) = Catalogue::new(&layers);
    let said = |conflict: &Conflict| match conflict.other {
        Some(other) => format!("{}: ModelCatalog {} is older and counts", conflict.message, own[other].name_any()),
        None => conflict.message.clone(),
    };
    let of = |at: usize| conflicts.iter().filter(|conflict| conflict.layer == at).map(said).collect();
    let faults = own.iter().enumerate().map(|(at, object)| (object.clone(), of(at))).collect();
    (catalogue, faults)
}

/// Gives a namespace what its names stand for, and its models what the catalogue has them called with.
pub fn fill(namespace: &mut Namespace, name: &str, objects: &Objects) {
    let (catalogue, _) = catalogue(&objects.catalogs, name);
    let mut models = Models { catalogue: &catalogue, found: Vec::new() };
    for (full, target) in &mut namespace.tags {
        if !is_alias(&target.model.to_ascii_lowercase()) {
            let known = models.of(&target.tag.clone(), target);
            models.add(target.tag.clone(), Place::Tag(full.clone()), known, target);
        }
    }
    for (name, deployment) in &mut namespace.deployments {
        let known = models.of(&deployment.stable.tag.clone(), &mut deployment.stable);
        if let Some(canary) = &mut deployment.canary {
            models.of(&canary.target.tag.clone(), &mut canary.target);
        }
        models.add(format!("deployment/{name}"), Place::Deployment(name.clone()), known, &deployment.stable);
    }
    for (provider, served) in &mut namespace.providers {
        for (model, target) in &mut served.models {
            let known = models.of(model, target);
            let place = Place::Offer { provider: provider.clone(), model: model.clone() };
            models.add(target.tag.clone(), place, known, target);
        }
    }
    let found = absent(name, objects, models);
    namespace.directory = Directory::new(&declared(found, catalogue.defaults(), name, objects));
}

struct Models<'c> {
    catalogue: &'c Catalogue<Value>,
    found: Vec<Model>,
}

impl Models<'_> {
    /// What is known of a target, which is given what its model is called with.
    fn of(&self, name: &str, target: &mut Target) -> Known<Value> {
        let mut known = self.catalogue.lookup(name);
        target.defaults = std::mem::take(&mut known.options);
        match &target.details {
            Some(details) => known.with_facts(details),
            None => known,
        }
    }

    fn add(&mut self, name: String, place: Place, known: Known<Value>, target: &Target) {
        let price = match &target.offer {
            None => Some(0.0),
            Some(offer) => offer.price.map(|price| price.input_per_million + price.output_per_million),
        };
        let absence = (!target.is_usable()).then(|| Absence::Unavailable("no ready node takes requests for it".into()));
        let identity = if target.digest.is_empty() { target.tag.clone() } else { target.digest.clone() };
        let extra = target.details.as_ref().map(|details| details.family.clone());
        self.push(name, place, known, extra, price, identity, absence);
    }

    /// A model that can't be called.
    fn add_absent(&mut self, name: String, place: Place, facts: Option<&NodeModel>, absence: Absence) {
        let known = self.catalogue.lookup(&name);
        let known = if let Some(facts) = facts { known.with_facts(facts) } else { known };
        let family = facts.map(|facts| facts.family.clone());
        self.push(name, place, known, family, None, String::new(), Some(absence));
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one value, put together in one place")]
    fn push(
        &mut self,
        name: String,
        place: Place,
        known: Known<Value>,
        family: Option<String>,
        price: Option<f64>,
        identity: String,
        absence: Option<Absence>,
    ) {
        let own = last_part(&name).split(':').next().unwrap_or_default().to_owned();
        let families = [Some(known.family), family, Some(own)].into_iter().flatten().filter(|name| !name.is_empty());
        self.found.push(Model {
            families: families.collect(),
            context_length: known.context_length,
            capabilities: known.capabilities,
            parameters: known.parameters,
            bits: known.bits,
            tags: known.tags,
            name,
            place,
            price,
            identity,
            absence,
        });
    }
}

/// With the models that somebody wants or has, but that can't be called.
fn absent(namespace: &str, objects: &Objects, mut models: Models<'_>) -> Vec<Model> {
    let mut known: BTreeSet<String> = models.found.iter().map(|model| full(&model.name)).collect();
    for node in of(namespace, &objects.nodes).filter(|node| node.usable().is_err()) {
        let why = node.usable().err().unwrap_or_default().to_owned();
        for model in away(node) {
            let full = full(&model.name);
            if known.insert(full.clone()) {
                let absence = Absence::Unavailable(format!("only {} has it: {why}", node.name_any()));
                models.add_absent(model.name.clone(), Place::Tag(full), Some(model), absence);
            }
        }
    }
    for pull in of(namespace, &objects.pulls) {
        let full = full(&pull.spec.model);
        if known.insert(full.clone()) {
            let absence = Absence::NotPulled(format!("ModelPull {} has brought it to no node yet", pull.name_any()));
            models.add_absent(pull.spec.model.clone(), Place::Tag(full), None, absence);
        }
    }
    for object in of(namespace, &objects.providers) {
        let (name, Err(why)) = (object.name_any(), object.usable()) else { continue };
        for ProviderModel { name: model, .. } in object.offered() {
            let absence = Absence::Unavailable(format!("provider {name} can't be used: {why}"));
            let place = Place::Offer { provider: name.clone(), model: model.clone() };
            models.add_absent(provider::tag(&name, &model), place, None, absence);
        }
    }
    for object in of(namespace, &objects.deployments) {
        let reference = format!("deployment/{}", object.name_any());
        if known.insert(full(&reference)) {
            let absence = Absence::Unavailable("no version of it serves yet".into());
            models.add_absent(reference, Place::Deployment(object.name_any()), None, absence);
        }
    }
    models.found
}

fn away(node: &OllamaNode) -> impl Iterator<Item = &NodeModel> {
    let models = node.status.iter().flat_map(|status| &status.models);
    models.filter(|model| !is_alias(&model.name.to_ascii_lowercase()))
}

fn full(name: &str) -> String {
    name.parse::<ModelName>().map_or_else(|_| name.to_owned(), |full| full.to_string().to_ascii_lowercase())
}

fn of<'o, K: ResourceExt>(namespace: &str, objects: &'o [Arc<K>]) -> impl Iterator<Item = &'o Arc<K>> {
    objects.iter().filter(move |object| object.namespace().as_deref().unwrap_or_default() == namespace)
}

fn declared(
    models: Vec<Model>,
    defaults: &BTreeMap<String, String>,
    namespace: &str,
    objects: &Objects,
) -> Declared<Value> {
    let profile = |object: &api::RoutingProfile| ProfileSpec {
        needs: object.spec.needs.clone(),
        parameters: object.spec.parameters.clone(),
    };
    Declared {
        models,
        defaults: defaults.clone(),
        deployments: named(namespace, &objects.deployments, |_| ()),
        profiles: named(namespace, &objects.profiles, profile),
        chains: named(namespace, &objects.chains, |object| chain(&object.spec)),
        workers: named(namespace, &objects.workers, |worker| worker.declared()),
    }
}

/// A chain as decisions see it.
pub fn chain(spec: &api::FallbackChainSpec) -> ChainSpec<Value> {
    ChainSpec { fault: bad_schema(spec), ..spec.declared() }
}

/// Which step's schema is none that answers could be checked by.
fn bad_schema(spec: &api::FallbackChainSpec) -> Option<String> {
    let schemas = (1..).zip(&spec.steps).filter_map(|(at, step)| Some((at, step.schema.as_ref()?)));
    let mut faults = schemas.filter_map(|(at, schema)| {
        let fault = jsonschema::options().build(schema).err()?;
        Some(format!("step {at}: schema: no JSON schema that answers can be checked by: {}", fault.masked()))
    });
    faults.next()
}

fn named<K: ResourceExt, T>(namespace: &str, objects: &[Arc<K>], spec: impl Fn(&K) -> T) -> Vec<Object<T>> {
    let present = of(namespace, objects).filter(|object| object.meta().deletion_timestamp.is_none());
    let object = |object: &Arc<K>| Object {
        name: object.name_any(),
        since: object.creation_timestamp().map(|since| since.0),
        spec: spec(object),
    };
    present.map(object).collect()
}
