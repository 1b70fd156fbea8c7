//! What a deployment's decision rests on.

use std::{sync::Arc, time::Duration};

use futures::TryStreamExt;
use kube::ResourceExt;
use tracing::debug;

use super::{
    super::{
        Context,
        version::{around::Around, provided},
    },
    authors,
};
use crate::{
    api::{
        ANNOTATION_ABORT, ANNOTATION_PAUSE, ANNOTATION_PROMOTE, ANNOTATION_RETRY, ANNOTATION_UNDO, HasConditions,
        ModelDeployment, ModelVersion, OllamaNode, Provider, ProviderSource,
    },
    cluster,
    domain::{
        conditions::READY,
        model_name::ModelName,
        rollout::{Authors, Availability, Commands, Release, Served, Spec, State, Step, Versions},
    },
    ports::GatewayStats,
};

const ASK_WITHIN: Duration = Duration::from_secs(2);
const ID_PREFIX: usize = 8;

/// Observations.
pub struct Seen {
    /// Which versions can serve.
    pub versions: Versions,
    /// What the gateways serve; `None` when nobody asked or one couldn't be asked.
    pub served: Option<Vec<Served>>,
}

/// What the user asks for.
pub fn spec(object: &ModelDeployment) -> Spec {
    let canary = object.spec.strategy.steps();
    let namespace = object.namespace().unwrap_or_default();
    let steps = canary.iter().flat_map(|canary| &canary.steps);
    Spec {
        version: object.spec.version.clone(),
        steps: steps.map(|step| Step { weight: step.weight, duration: step.duration.0 }).collect(),
        require_approval: canary.as_ref().is_some_and(|canary| canary.require_approval),
        shadow: canary.as_ref().and_then(|canary| canary.copies()),
        analysis: canary.as_ref().and_then(|canary| canary.settings(&namespace, &object.name_any())),
        paused: object.spec.paused,
        min_nodes: object.spec.placement.min_nodes,
        id_prefix: object.uid().unwrap_or_default().chars().take(ID_PREFIX).collect(),
    }
}

/// The commands on the object.
pub fn commands(object: &ModelDeployment) -> Commands {
    let value = |key: &str| object.annotations().get(key).cloned();
    Commands {
        promote: value(ANNOTATION_PROMOTE),
        undo: value(ANNOTATION_UNDO),
        abort: value(ANNOTATION_ABORT),
        retry: value(ANNOTATION_RETRY),
        pause: value(ANNOTATION_PAUSE),
    }
}

/// Who set the commands and the spec. Watched objects don't say, so it is asked for when something is to be noted; where it
/// can't be had, that must not hold up a rollback.
pub async fn who(context: &Context, object: &ModelDeployment) -> Option<Authors> {
    let api = cluster::api::<ModelDeployment>(&context.client, object.namespace().as_deref());
    let name = object.name_any();
    match tokio::time::timeout(ASK_WITHIN, api.get_metadata(&name)).await {
        Ok(Ok(found)) => Some(authors::authors(&found.metadata)),
        Ok(Err(error)) => {
            debug!(%error, "the field managers can't be read");
            None
        }
        Err(_) => None,
    }
}

/// Looks around; asks the gateways only while a rollback is on its way to them.
pub async fn observe(context: &Context, object: &ModelDeployment, state: &State) -> Seen {
    let namespace = object.namespace().unwrap_or_default();
    let nodes = context.nodes.list(&namespace);
    let all = context.versions.list(&namespace);
    let same_model = all.iter().filter(|version| version.spec.model == object.spec.model);
    let (providers, deployments) = (context.providers.list(&namespace), context.deployments.list(&namespace));
    let mut versions = Versions::new();
    for version in same_model {
        let found = match &version.spec.source.provider {
            Some(source) => {
                let around = Around { version, versions: &all, deployments: &deployments };
                of_provider(&around, source, object, &providers)
            }
            None => availability(context, version, object, &nodes),
        };
        // Of two objects for one version, one is refused and never gets a digest.
        if found.release.is_some() || !versions.contains_key(&version.spec.version) {
            versions.insert(version.spec.version.clone(), found);
        }
    }
    let waiting = state.last_rollback.as_ref().is_some_and(|rollback| rollback.effective_at.is_none());
    let served = if waiting { served(context, object).await } else { None };
    Seen { versions, served }
}

/// The name of an older deployment of the same model in the namespace: there can be one only.
pub fn rival(context: &Context, object: &ModelDeployment) -> Option<String> {
    let age = |object: &ModelDeployment| (object.creation_timestamp(), object.name_any());
    let others = context.deployments.list(&object.namespace().unwrap_or_default());
    let rival = others.iter().find(|other| other.spec.model == object.spec.model && age(other) < age(object));
    rival.map(|rival| rival.name_any())
}

fn availability(
    context: &Context,
    version: &ModelVersion,
    object: &ModelDeployment,
    all_nodes: &[Arc<OllamaNode>],
) -> Availability {
    let status = version.status.as_ref();
    let (Some(digest), Some(alias)) =
        (status.and_then(|status| status.digest.clone()), status.and_then(|status| status.alias.as_ref()))
    else {
        let name = version.name_any();
        let why = version.conditions().iter().find(|condition| condition.type_ == READY);
        let why = why.map_or_else(|| format!("see ModelVersion {name}"), |ready| ready.message.clone());
        let message = format!("{} has no digest yet (ModelVersion {name}): {why}", version.spec.version);
        return Availability { release: None, nodes: 0, message };
    };
    let selector = &object.spec.placement.node_selector;
    let holders = all_nodes.iter().filter(|node| node.serves(selector, alias, &digest).is_some());
    let nodes = holders.count() as u32;
    let release = Release { version: version.spec.version.clone(), tag: version.tag(), digest };
    // Where nodes that hold it are away, more pulls are no help.
    let held = all_nodes.iter().filter(|node| node.holds(alias, &release.digest).is_some()).count() as u32;
    let wanted = object.spec.placement.min_nodes;
    let advice = if held < wanted { unpulled(context, object, &release) } else { None };
    let message = advice.map(|advice| format!("{nodes} of {wanted} nodes hold {}: {advice}", release.version));
    Availability { release: Some(release), nodes, message: message.unwrap_or_default() }
}

/// What to do where nothing declared brings a version's model to nodes.
fn unpulled(context: &Context, object: &ModelDeployment, release: &Release) -> Option<String> {
    let pulls = context.pulls.list(&object.namespace().unwrap_or_default());
    let is_pulled = pulls.iter().any(|pull| ModelName::same(&pull.spec.model, &release.tag));
    (!is_pulled).then(|| format!("no ModelPull brings {} to nodes, so create one", release.tag))
}

/// A provider stands for as many nodes as are asked for, while it can be used.
fn of_provider(
    around: &Around<'_>,
    source: &ProviderSource,
    object: &ModelDeployment,
    providers: &[Arc<Provider>],
) -> Availability {
    let version = around.version;
    if let Some(fault) = provided::held_back(around) {
        let message = format!("{}: {}", version.spec.version, fault.advice(&version.spec.model));
        return Availability { release: None, nodes: 0, message };
    }
    let usable = provided::usable(source, providers);
    let nodes = if usable.is_ok() { object.spec.placement.min_nodes.max(1) } else { 0 };
    let release = Release { version: version.spec.version.clone(), tag: source.tag(), digest: String::new() };
    Availability { release: Some(release), nodes, message: usable.err().unwrap_or_default() }
}

/// What every gateway serves; `None` when one of them could not be asked: it may serve what others no longer do.
async fn served(context: &Context, object: &ModelDeployment) -> Option<Vec<Served>> {
    let gateways: Result<Vec<GatewayStats>, _> = context.gateways.stats(None).try_collect().await;
    let gateways = gateways.inspect_err(|error| debug!(%error, "a gateway can't be asked what it serves")).ok()?;
    let namespace = object.namespace().unwrap_or_default();
    let serving = gateways.iter().filter(|stats| stats.namespace == namespace);
    Some(serving.map(|stats| revision(stats, object)).collect())
}

fn revision(stats: &GatewayStats, object: &ModelDeployment) -> Served {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let own = stats.deployments.iter().find(|stats| stats.namespace == namespace && stats.name == name);
    own.map_or(Served { revision: 0, since: jiff::Timestamp::MIN }, |own| Served {
        revision: own.revision,
        since: own.since,
    })
}
