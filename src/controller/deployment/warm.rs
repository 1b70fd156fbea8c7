//! `spec.warm`: has nodes load every version that may get requests, before the first one comes.

use std::{
    cell::LazyCell,
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{super::Context, embeds::embeds};
use crate::{
    api::{ModelDeployment, ModelVersion, OllamaNode},
    domain::{
        params::{self, Source},
        rollout::{Cold, State, Versions, has_served, wait_for},
    },
    ports::Load,
    routing_table::compile::{Objects, compile_deployments},
};

/// How often a version that waits for its nodes is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// When a node that could not load a version is asked again.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// A node's URL and an alias.
type Place = (String, String);

/// What became of a model that a node was to load.
#[derive(Clone)]
enum Loading {
    UnderWay,
    Done,
    Failed { why: String, at: Instant },
}

/// What was to be loaded for a revision.
#[derive(Default)]
struct Loads {
    revision: i64,
    places: HashMap<Place, Loading>,
}

/// What each deployment has had loaded for its present revision: each place once, because a node without room for two
/// models would otherwise load them in turn for ever.
#[derive(Clone, Default)]
pub struct Warm(Arc<Mutex<HashMap<ObjectRef<ModelDeployment>, Loads>>>);

impl Warm {
    /// Nodes that have yet to load a version that gets no requests so far don't count as its nodes. Returns when to look
    /// again, where that keeps it from beginning.
    pub fn hold_back(
        &self,
        context: &Context,
        object: &ModelDeployment,
        state: &State,
        versions: &mut Versions,
    ) -> Option<Duration> {
        let target = candidate(object, state)?;
        let found = versions.get_mut(target).filter(|found| found.nodes > 0)?;
        let namespace = object.namespace().unwrap_or_default();
        let all = context.versions.list(&namespace);
        let version = all.iter().find(|version| is_of(object, version, target) && place_of(version).is_some())?;
        let nodes = context.nodes.list(&namespace);
        let served = LazyCell::new(|| Served::of(context, object, state, &nodes));
        let cold = cold_holders(object, version, &nodes).filter(|node| served.may_load(version, node));
        let cold = cold.filter_map(|node| {
            let failure = match self.loading(object, state.revision, version, node) {
                Some(Loading::Done) => return None,
                Some(Loading::Failed { why, .. }) => Some(why),
                Some(Loading::UnderWay) | None => None,
            };
            Some(Cold { node: node.name_any(), failure })
        });
        let cold: Vec<Cold> = cold.collect();
        wait_for(found, target, &cold, object.spec.placement.min_nodes).then_some(LOOK_AGAIN)
    }

    /// Starts loading what is not in memory yet.
    pub fn load_missing(&self, context: &Arc<Context>, object: &ModelDeployment, state: &State) {
        if !object.spec.warm {
            return;
        }
        let namespace = object.namespace().unwrap_or_default();
        let nodes = context.nodes.list(&namespace);
        let next = candidate(object, state).filter(|_| state.rejected.is_none());
        let wanted: HashSet<&str> = state.versions_in_use().chain(next).collect();
        // Mostly nothing is cold, and then it needn't be known.
        let served = LazyCell::new(|| Served::of(context, object, state, &nodes));
        for version in context.versions.list(&namespace) {
            let name = version.spec.version.as_str();
            if wanted.contains(name) && is_of(object, &version, name) {
                let again = if next == Some(name) { Some(TRY_AGAIN) } else { None };
                for node in cold_holders(object, &version, &nodes).filter(|node| served.may_load(&version, node)) {
                    self.load(context, object, (state.revision, again), &version, node);
                }
            }
        }
    }

    /// Forgets a deployment that is gone.
    pub fn forget(&self, object: &ObjectRef<ModelDeployment>) {
        self.all().remove(object);
    }

    fn loading(
        &self,
        object: &ModelDeployment,
        revision: i64,
        version: &ModelVersion,
        node: &OllamaNode,
    ) -> Option<Loading> {
        let place = (node.spec.url.clone(), place_of(version)?.0.to_owned());
        let all = self.all();
        all.get(&ObjectRef::from_obj(object)).filter(|loads| loads.revision == revision)?.places.get(&place).cloned()
    }

    /// Whether this is the first time for this revision, or a failure is so long ago that it is time again.
    fn is_due(&self, object: &ModelDeployment, (revision, again): (i64, Option<Duration>), place: &Place) -> bool {
        let mut all = self.all();
        let loads = all.entry(ObjectRef::from_obj(object)).or_default();
        if loads.revision != revision {
            *loads = Loads { revision, places: HashMap::new() };
        }
        let is_due = match loads.places.get(place) {
            None => true,
            Some(Loading::Failed { at, .. }) => again.is_some_and(|again| at.elapsed() >= again),
            Some(Loading::UnderWay | Loading::Done) => false,
        };
        if is_due {
            loads.places.insert(place.clone(), Loading::UnderWay);
        }
        is_due
    }

    fn load(
        &self,
        context: &Arc<Context>,
        object: &ModelDeployment,
        when: (i64, Option<Duration>),
        version: &ModelVersion,
        node: &OllamaNode,
    ) {
        let Some((alias, _)) = place_of(version) else { return };
        let (place, name) = ((node.spec.url.clone(), alias.to_owned()), node.name_any());
        if !self.is_due(object, when, &place) {
            return;
        }
        let how = Load {
            embeds: embeds(context, version),
            options: serving_options(version, node),
            keep_alive: node.spec.keep_alive.map(|duration| duration.to_string()),
        };
        let (context, warm, of) = (context.clone(), self.clone(), (ObjectRef::from_obj(object), when.0));
        let node = ObjectRef::from_obj(node);
        let jobs = context.jobs.clone();
        jobs.start(CancellationToken::new(), async move {
            let (url, alias) = &place;
            let became = match context.ollama.load(url, alias, how).await {
                Ok(()) => Loading::Done,
                Err(error) => {
                    warn!(node = name, alias, %error, "a version could not be loaded ahead of requests");
                    Loading::Failed { why: error.to_string(), at: Instant::now() }
                }
            };
            warm.note(&of, place, became);
            context.pokes.node(node);
        });
    }

    fn note(&self, (object, revision): &(ObjectRef<ModelDeployment>, i64), place: Place, became: Loading) {
        if let Some(loads) = self.all().get_mut(object).filter(|loads| loads.revision == *revision) {
            loads.places.insert(place, became);
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<ObjectRef<ModelDeployment>, Loads>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The version that is to begin, if it is to be loaded first.
fn candidate<'a>(object: &'a ModelDeployment, state: &State) -> Option<&'a str> {
    let target = object.spec.version.as_str();
    (object.spec.warm && !has_served(state, target)).then_some(target)
}

fn is_of(object: &ModelDeployment, version: &ModelVersion, name: &str) -> bool {
    version.spec.model == object.spec.model && version.spec.version == name
}

/// A version's alias and digest, once both are known.
fn place_of(version: &ModelVersion) -> Option<(&str, &str)> {
    let status = version.status.as_ref()?;
    Some((status.alias.as_deref()?, status.digest.as_deref()?))
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
    let known = place_of(version);
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
