//! Whether there are enough nodes for versions that run the same weights differently.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;

use super::super::Context;
use crate::{
    api::{ModelDeployment, ModelVersion},
    cluster::Watched,
    domain::{conditions::Finding, rollout::State, routing::runner},
    routing_table::{
        compile::{Objects, shortages},
        runners::Shortage,
    },
};

/// How versions are run, by their digest.
type Ways<'a> = HashMap<&'a str, HashSet<String>>;

/// Says so where there are not. The rollout goes on: nodes do answer, though not as fast as they could.
pub fn check(context: &Context, object: &ModelDeployment, state: &State) -> Option<Finding> {
    let namespace = object.namespace().unwrap_or_default();
    let versions = context.versions.list(&namespace);
    let own = models_in_conflict(&versions, &object.spec.model);
    if own.is_empty() {
        return None;
    }
    let mut decided = object.clone();
    decided.status.get_or_insert_default().rollout = state.clone();
    let others = context.deployments.list(&namespace).into_iter();
    let others = others.filter(|other| other.name_any() != object.name_any() && own.contains(&*other.spec.model));
    let objects = Objects {
        nodes: context.nodes.list(&namespace),
        deployments: others.chain([Arc::new(decided)]).collect(),
        versions: versions.clone(),
        ..Objects::default()
    };
    let found = shortages(&objects, Timestamp::now());
    let mut short = found.into_iter().filter(|short| short.deployments.contains(&object.name_any()));
    let Shortage { message, .. } = short.next()?;
    let more = match short.count() {
        0 => String::new(),
        more => format!(" (and {more} more like this)"),
    };
    Some(Finding::new("RunnersNotApart", true, "TooFewNodes", message + &more))
}

/// The other deployments that may lack nodes, or have enough again, when this one changed.
pub fn neighbours(
    versions: &Watched<ModelVersion>,
    deployments: &[Arc<ModelDeployment>],
    changed: &ModelDeployment,
) -> Vec<ObjectRef<ModelDeployment>> {
    let versions = versions.list(&changed.namespace().unwrap_or_default());
    let models = models_in_conflict(&versions, &changed.spec.model);
    let others = deployments.iter().filter(|other| models.contains(&*other.spec.model));
    others.map(|other| ObjectRef::from_obj(&**other)).collect()
}

/// The models whose versions have weights of one of this model's, where not all of those are run in the same way: mostly
/// none.
fn models_in_conflict<'a>(versions: &'a [Arc<ModelVersion>], model: &str) -> HashSet<&'a str> {
    let digest = |version: &'a ModelVersion| version.status.as_ref()?.digest.as_deref();
    let mut ways: Ways<'_> = HashMap::new();
    for own in versions.iter().filter(|version| version.spec.model == model) {
        ways.extend(digest(own).map(|digest| (digest, HashSet::new())));
    }
    let mut models: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
    for version in versions {
        if let Some((digest, ways)) = digest(version).and_then(|digest| Some((digest, ways.get_mut(digest)?))) {
            ways.insert(runner(&version.spec.parameters, None));
            models.entry(digest).or_default().insert(&version.spec.model);
        }
    }
    models.retain(|digest, _| ways[digest].len() > 1);
    models.into_values().flatten().collect()
}
