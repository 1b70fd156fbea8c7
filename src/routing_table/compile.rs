//! From watched objects to a table: pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use jiff::Timestamp;
use kube::ResourceExt;
use sha2::{Digest as _, Sha256};

use super::{
    Canary, Deployment, Holder, Key, Namespace, Node, RoutingTable, Shadow, Target, directory, providers,
    room::keep_apart,
    runners::{Shortage, keep_runners_apart},
};
use crate::{
    api::{
        self, ApiKey, CanaryStrategy, FallbackChain, ModelCatalog, ModelDeployment, ModelPull, ModelVersion,
        OllamaNode, Provider, RoutingProfile, Worker,
    },
    domain::{
        digest::{Digest, served},
        labels::NodeSelector,
        model_name::ModelName,
        node::NodeModel,
        rollout::Release,
        run_record::SystemPrompt,
    },
};

/// The objects a table is made of.
#[derive(Default)]
pub struct Objects {
    /// Nodes.
    pub nodes: Vec<Arc<OllamaNode>>,
    /// Versions.
    pub versions: Vec<Arc<ModelVersion>>,
    /// Deployments.
    pub deployments: Vec<Arc<ModelDeployment>>,
    /// Pulls: what they resolved is what their tags stand for.
    pub pulls: Vec<Arc<ModelPull>>,
    /// Providers.
    pub providers: Vec<Arc<Provider>>,
    /// Keys of callers.
    pub keys: Vec<Arc<ApiKey>>,
    /// What is known of models.
    pub catalogs: Vec<Arc<ModelCatalog>>,
    /// Profiles.
    pub profiles: Vec<Arc<RoutingProfile>>,
    /// Chains.
    pub chains: Vec<Arc<FallbackChain>>,
    /// Workers.
    pub workers: Vec<Arc<Worker>>,
}

/// A node that takes requests.
struct Usable<'a> {
    object: &'a OllamaNode,
    node: Arc<Node>,
    loaded: HashSet<&'a str>,
}

impl Usable<'_> {
    fn holder(&self, digest: &str) -> Holder {
        Holder { node: self.node.clone(), loaded: self.loaded.contains(digest), digest: digest.to_owned() }
    }
}

/// The table for these objects, as served from `now` on.
pub fn compile(objects: &Objects, now: Timestamp) -> RoutingTable {
    let usable = usable(objects);
    let (mut namespaces, short) = deployments(objects, &usable, now);
    for seen in &usable {
        let namespace = namespaces.entry(space(seen.object)).or_default();
        namespace.nodes.insert(seen.node.name.clone(), seen.node.clone());
        for model in seen.object.status.iter().flat_map(|status| &status.models) {
            add_tag(namespace, seen, model);
        }
    }
    for node in &objects.nodes {
        if let Err(why) = node.usable() {
            namespaces.entry(space(&**node)).or_default().away.insert(node.name_any(), why.into());
        }
    }
    for provider in &objects.providers {
        let namespace = namespaces.entry(space(&**provider)).or_default();
        namespace.providers.insert(provider.name_any(), providers::compile(provider));
    }
    for (space, keys) in compile_keys(&objects.keys) {
        namespaces.entry(space).or_default().keys = keys;
    }
    let warnings = short.into_iter().map(|short| short.message).chain(agree(&mut namespaces, &objects.pulls)).collect();
    for space in spaces_of_names(objects) {
        namespaces.entry(space).or_default();
    }
    for (name, namespace) in &mut namespaces {
        directory::fill(namespace, name, objects);
    }
    RoutingTable { namespaces, warnings }
}

/// Where names are declared that stand for models.
fn spaces_of_names(objects: &Objects) -> BTreeSet<String> {
    let profiles = objects.profiles.iter().map(|object| space(&**object));
    let chains = objects.chains.iter().map(|object| space(&**object));
    profiles.chain(chains).chain(objects.workers.iter().map(|object| space(&**object))).collect()
}

/// The same with deployments only.
pub fn compile_deployments(objects: &Objects, now: Timestamp) -> RoutingTable {
    let (namespaces, short) = deployments(objects, &usable(objects), now);
    RoutingTable { namespaces, warnings: short.into_iter().map(|short| short.message).collect() }
}

/// For which deployments there are not enough nodes to keep versions apart that run the same weights differently.
pub fn shortages(objects: &Objects, now: Timestamp) -> Vec<Shortage> {
    deployments(objects, &usable(objects), now).1
}

fn usable(objects: &Objects) -> Vec<Usable<'_>> {
    let usable = objects.nodes.iter().filter(|node| node.usable().is_ok());
    usable.map(|node| Usable { object: node, node: Arc::new(entry(node)), loaded: node.loaded_digests() }).collect()
}

fn deployments(
    objects: &Objects,
    usable: &[Usable<'_>],
    now: Timestamp,
) -> (BTreeMap<String, Namespace>, Vec<Shortage>) {
    let mut namespaces: BTreeMap<String, Namespace> = BTreeMap::new();
    for deployment in &objects.deployments {
        let space = space(&**deployment);
        let nodes: Vec<_> = usable.iter().filter(|seen| seen.object.namespace().unwrap_or_default() == space).collect();
        if let Some(compiled) = compile_deployment(deployment, objects, &nodes, now) {
            namespaces.entry(space).or_default().deployments.insert(deployment.name_any(), compiled);
        }
    }
    let short = namespaces.values_mut().flat_map(keep_runners_apart).collect();
    (namespaces, short)
}

/// The keys of each namespace by their hashes. A hash that several have is the oldest one's, whatever that is good for.
fn compile_keys(objects: &[Arc<ApiKey>]) -> BTreeMap<String, BTreeMap<Digest, Arc<Key>>> {
    let mut holders: BTreeMap<(String, &str), &ApiKey> = BTreeMap::new();
    for key in objects.iter().filter(|key| key.metadata.deletion_timestamp.is_none()) {
        let holder = holders.entry((space(&**key), &key.spec.hash)).or_insert(key);
        if key.seniority() < holder.seniority() {
            *holder = key;
        }
    }
    let mut compiled: BTreeMap<String, BTreeMap<Digest, Arc<Key>>> = BTreeMap::new();
    for ((space, _), key) in holders {
        if let Ok((hash, _)) = key.parsed() {
            compiled.entry(space).or_default().insert(hash, Arc::new(compile_key(key)));
        }
    }
    compiled
}

fn compile_key(key: &ApiKey) -> Key {
    let spec = &key.spec;
    let gateways = key.status.as_ref().and_then(|status| status.gateways).unwrap_or(1);
    Key {
        name: key.name_any(),
        models: spec.models.clone(),
        limits: spec.limits.share(gateways),
        gateways,
        expires_at: spec.expires_at,
        disabled: spec.disabled,
        allow_model_operations: spec.allow_model_operations,
    }
}

/// Has each tag stand for one digest only, and says which nodes hold another one.
fn agree(namespaces: &mut BTreeMap<String, Namespace>, pulls: &[Arc<ModelPull>]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (space_name, namespace) in namespaces {
        for (full, target) in namespace.tags.iter_mut().filter(|(_, target)| target.digest.is_empty()) {
            let of_tag = pulls.iter().filter(|pull| space(&***pull) == *space_name && stands_for(pull, full));
            let resolved = of_tag.filter_map(|pull| pull.status.as_ref()?.resolved.as_ref()).next();
            let held: Vec<&str> = target.holders.iter().map(|holder| &*holder.digest).collect();
            let Some(digest) = served(&held, resolved.map(|resolved| &*resolved.digest)) else { continue };
            let digest = digest.to_owned();
            let (kept, behind): (Vec<_>, Vec<_>) = target.holders.drain(..).partition(|holder| holder.digest == digest);
            let names: Vec<_> = behind.iter().map(|holder| &*holder.node.name).collect();
            let (tag, names) = (&target.tag, names.join(", "));
            target.passed_over = behind.iter().map(|holder| other_digest(holder, tag)).collect();
            warnings.push(format!(
                "{tag}: another digest than {digest} is on {names}, and no request goes there for it; pull it there again"
            ));
            (target.digest, target.holders) = (digest, kept);
        }
    }
    warnings
}

fn other_digest(holder: &Holder, tag: &str) -> (String, String) {
    (holder.node.name.clone(), format!("its {tag} has another digest, {}", holder.digest))
}

fn stands_for(pull: &ModelPull, full: &str) -> bool {
    let name = pull.spec.model.parse::<ModelName>();
    name.is_ok_and(|name| name.to_string().eq_ignore_ascii_case(full))
}

fn space<K: ResourceExt>(object: &K) -> String {
    object.namespace().unwrap_or_default()
}

fn entry(node: &OllamaNode) -> Node {
    Node {
        id: format!("{}/{}", space(node), node.name_any()),
        name: node.name_any(),
        url: node.spec.url.clone(),
        weight: node.spec.weight,
        max_concurrent_requests: node.spec.max_concurrent_requests,
        keep_alive: node.spec.keep_alive.map(|duration| duration.to_string()),
        context_length: node.spec.context_length,
        max_context_length: node.spec.max_context_length,
    }
}

fn add_tag(namespace: &mut Namespace, seen: &Usable<'_>, model: &NodeModel) {
    let (name, digest) = (&model.name, &model.digest);
    let Ok(full) = name.parse::<ModelName>() else { return };
    let target = namespace.tags.entry(full.to_string().to_ascii_lowercase()).or_insert_with(|| Target {
        tag: name.clone(),
        digest: digest.clone(),
        model: name.clone(),
        details: Some(Arc::new(model.clone())),
        ..Target::default()
    });
    if target.digest != *digest {
        target.digest.clear();
    }
    target.holders.push(seen.holder(digest));
}

fn compile_deployment(
    deployment: &ModelDeployment,
    objects: &Objects,
    nodes: &[&Usable<'_>],
    now: Timestamp,
) -> Option<Deployment> {
    let state = &deployment.status.as_ref()?.rollout;
    let selector = &deployment.spec.placement.node_selector;
    let target = |release: &Release| {
        let same = |candidate: &&Arc<ModelVersion>| {
            candidate.namespace() == deployment.namespace()
                && candidate.spec.model == deployment.spec.model
                && candidate.spec.version == release.version
        };
        // Of two objects for one version, one is refused and has no alias.
        let mut candidates = objects.versions.iter().filter(same);
        let compiled = candidates.find_map(|version| match &version.spec.source.provider {
            Some(source) => providers::version(version, source, release, &objects.providers),
            None => compile_version(version, release, selector, nodes),
        });
        compiled.unwrap_or_else(|| nowhere(release))
    };
    let mut stable = target(&state.stable.as_ref()?.release);
    let strategy = deployment.spec.strategy.canary.as_ref();
    let shadow = |share| Shadow { share, budget: strategy.map_or(0.0, CanaryStrategy::shadow_budget) };
    let mut canary = state.canary.as_ref().map(|canary| Canary {
        weight: canary.weight,
        shadow: canary.shadow.map(shadow),
        target: target(&canary.release),
    });
    if let Some(Canary { weight, target, .. }) = &mut canary {
        let name = deployment.name_any();
        keep_apart(&name, [&mut stable, target], *weight, nodes.iter().map(|seen| seen.object));
    }
    Some(Deployment {
        revision: state.revision,
        since: now,
        rollout_id: state.rollout_id.clone(),
        stable,
        canary,
        schema_check: deployment.spec.schema_check,
        sticky_header: strategy.and_then(|s| s.sticky.as_ref()).map(|sticky| sticky.header.to_ascii_lowercase()),
    })
}

/// A version whose object is gone: what went live is known, who could serve it is not.
fn nowhere(release: &Release) -> Target {
    Target {
        tag: release.tag.clone(),
        version: Some(release.version.clone()),
        digest: release.digest.clone(),
        ..Target::default()
    }
}

pub(super) fn edition(prompt: &api::SystemPrompt) -> SystemPrompt {
    let digest = Digest::from_sha256(&Sha256::digest(&prompt.text));
    SystemPrompt { version: prompt.version.as_str().into(), digest }
}

/// A version as served by the nodes that the selector picks and that hold its alias with the digest that went live.
fn compile_version(
    version: &ModelVersion,
    release: &Release,
    selector: &NodeSelector,
    nodes: &[&Usable<'_>],
) -> Option<Target> {
    let alias = version.status.as_ref()?.alias.as_ref()?;
    let digest = &release.digest;
    let holds = |seen: &&&Usable<'_>| seen.object.holds(alias, digest).is_some();
    let serves = |seen: &&&Usable<'_>| seen.object.serves(selector, alias, digest).is_some();
    let holders = nodes.iter().filter(serves).map(|seen| seen.holder(digest));
    let outside = nodes.iter().filter(|seen| holds(seen) && !serves(seen));
    let left_out = |seen: &&Usable<'_>| (seen.node.name.clone(), "the deployment's placement leaves it out".to_owned());
    let models = nodes.iter().flat_map(|seen| seen.object.status.iter().flat_map(|status| &status.models));
    let details = models.into_iter().find(|model| model.digest == *digest).cloned().map(Arc::new);
    Some(Target {
        details,
        tag: version.tag(),
        version: Some(version.spec.version.clone()),
        digest: digest.clone(),
        model: alias.clone(),
        parameters: version.spec.parameters.clone(),
        defaults: BTreeMap::new(),
        system_prompt: version.spec.system_prompt.as_ref().map(|prompt| prompt.text.clone()),
        prompt_edition: version.spec.system_prompt.as_ref().map(edition),
        holders: holders.collect(),
        offer: None,
        passed_over: outside.map(left_out).collect(),
    })
}
