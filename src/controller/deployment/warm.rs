//! `spec.warm`: has nodes load every version that may get requests, before the first one comes.

use std::{
    cell::LazyCell,
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::super::Context;
use crate::{
    api::{ModelDeployment, ModelVersion, OllamaNode},
    domain::{
        params::{self, Source},
        rollout::State,
    },
    routing_table::compile::{Objects, compile_deployments},
};

/// A node's URL and an alias.
type Place = (String, String);

/// A revision and where its versions have been loaded.
type Loaded = (i64, HashSet<Place>);

/// What each deployment has had loaded for its present revision: each place once, because a node without room for two
/// models would otherwise load them in turn for ever.
#[derive(Default)]
pub struct Warm(Mutex<HashMap<ObjectRef<ModelDeployment>, Loaded>>);

impl Warm {
    /// Starts loading what is not in memory yet.
    pub fn load_missing(&self, context: &Arc<Context>, object: &ModelDeployment, state: &State) {
        if !object.spec.warm {
            return;
        }
        let namespace = object.namespace().unwrap_or_default();
        let nodes = context.nodes.list(&namespace);
        let in_use: HashSet<&str> = state.versions_in_use().collect();
        // Mostly nothing is cold, and then it needn't be known.
        let served = LazyCell::new(|| Served::of(context, object, state, &nodes));
        for version in context.versions.list(&namespace) {
            if version.spec.model == object.spec.model && in_use.contains(version.spec.version.as_str()) {
                for node in cold_holders(object, &version, &nodes).filter(|node| served.may_load(&version, node)) {
                    self.load(context, object, state.revision, &version, node);
                }
            }
        }
    }

    /// Forgets a deployment that is gone.
    pub fn forget(&self, object: &ObjectRef<ModelDeployment>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }

    /// Whether this is the first time for this revision.
    fn is_due(&self, object: &ModelDeployment, revision: i64, place: &Place) -> bool {
        let mut loaded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, places) = loaded.entry(ObjectRef::from_obj(object)).or_default();
        if *of != revision {
            places.clear();
            *of = revision;
        }
        places.insert(place.clone())
    }

    fn load(
        &self,
        context: &Arc<Context>,
        object: &ModelDeployment,
        revision: i64,
        version: &ModelVersion,
        node: &OllamaNode,
    ) {
        let Some(alias) = version.status.as_ref().and_then(|status| status.alias.clone()) else { return };
        let (url, name) = (node.spec.url.clone(), node.name_any());
        if !self.is_due(object, revision, &(url.clone(), alias.clone())) {
            return;
        }
        let options = serving_options(version, node);
        let keep_alive = node.spec.keep_alive.map(|duration| duration.to_string());
        let (context, object) = (context.clone(), ObjectRef::from_obj(node));
        let jobs = context.jobs.clone();
        jobs.start(CancellationToken::new(), async move {
            match context.ollama.load(&url, &alias, options, keep_alive).await {
                Ok(()) => context.pokes.node(object),
                Err(error) => warn!(node = name, alias, %error, "a version could not be loaded ahead of requests"),
            }
        });
    }
}

/// Where the gateways send requests: of versions that share weights, a node runs one.
struct Served {
    /// By alias: the nodes that requests go to.
    nodes: HashMap<String, HashSet<String>>,
    /// Digests in use, each with a node.
    digests: HashSet<(String, String)>,
}

impl Served {
    fn of(context: &Context, object: &ModelDeployment, state: &State, nodes: &[Arc<OllamaNode>]) -> Self {
        let namespace = object.namespace().unwrap_or_default();
        let mut own = object.clone();
        own.status.get_or_insert_default().rollout = state.clone();
        let digests: HashSet<&str> = live(state).collect();
        let shares = |other: &Arc<ModelDeployment>| {
            let rollout = other.status.as_ref().map(|status| &status.rollout);
            other.name_any() != object.name_any() && rollout.into_iter().flat_map(live).any(|d| digests.contains(d))
        };
        let others = context.deployments.list(&namespace).into_iter().filter(shares);
        let objects = Objects {
            nodes: nodes.to_vec(),
            versions: context.versions.list(&namespace),
            deployments: others.chain([Arc::new(own)]).collect(),
            ..Objects::default()
        };
        let table = compile_deployments(&objects, Timestamp::now());
        let mut served = Self { nodes: HashMap::new(), digests: HashSet::new() };
        for deployment in table.namespace(&namespace).deployments.values() {
            let trial = deployment.canary.iter().map(|canary| &canary.target);
            for target in [&deployment.stable].into_iter().chain(trial) {
                let names: HashSet<_> = target.holders.iter().map(|holder| holder.node.name.clone()).collect();
                served.digests.extend(names.iter().map(|name| (target.digest.clone(), name.clone())));
                served.nodes.insert(target.model.clone(), names);
            }
        }
        served
    }

    /// Whether loading a version there takes no other's runner away.
    fn may_load(&self, version: &ModelVersion, node: &OllamaNode) -> bool {
        let Some(status) = &version.status else { return false };
        match status.alias.as_ref().and_then(|alias| self.nodes.get(alias)) {
            Some(nodes) => nodes.contains(&node.name_any()),
            None => !self.digests.contains(&(status.digest.clone().unwrap_or_default(), node.name_any())),
        }
    }
}

/// The digests that a rollout has requests sent to.
fn live(state: &State) -> impl Iterator<Item = &str> {
    let trial = state.canary.iter().map(|canary| &*canary.release.digest);
    state.stable.iter().map(|stable| &*stable.release.digest).chain(trial)
}

/// Usable nodes of the placement that hold the version, but not in memory.
fn cold_holders<'a>(
    object: &'a ModelDeployment,
    version: &'a ModelVersion,
    nodes: &'a [Arc<OllamaNode>],
) -> impl Iterator<Item = &'a OllamaNode> {
    let known = version.status.as_ref().and_then(|status| Some((status.alias.as_ref()?, status.digest.as_ref()?)));
    nodes.iter().map(AsRef::as_ref).filter(move |node: &&OllamaNode| {
        let selector = &object.spec.placement.node_selector;
        known.and_then(|(alias, digest)| node.serves(selector, alias, digest)).is_some_and(|held| !held.loaded)
    })
}

/// The options that requests will be sent with: others would make the node load the model again.
fn serving_options(version: &ModelVersion, node: &OllamaNode) -> BTreeMap<String, Value> {
    let own: BTreeMap<String, Value> =
        node.spec.context_length.map(|length| ("num_ctx".to_owned(), length.into())).into_iter().collect();
    let merged = params::merge([(Source::Version, &version.spec.parameters), (Source::Node, &own)]);
    merged.into_iter().map(|(name, (value, _))| (name.clone(), value.clone())).collect()
}
