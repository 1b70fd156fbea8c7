//! Whether a fleet can do what it is there for, said for load balancers and for people.
//!
//! - **Unhealthy**: a required model is on no ready node, so that no request for it can be answered; or there are nodes
//!   and none of them is ready.
//! - **Degraded**: a node is away; a model, required or not, is missing on a ready node that must have it, or
//!   everywhere; a pull picks no node; a provider can't be used.
//! - **Healthy**: neither.
//!
//! A model counts as present where a ready node holds it, with the pinned digest if there is one; what the pull itself
//! is doing doesn't matter. A node in maintenance was taken out on purpose: it is not away and nothing is missing on it,
//! but it answers nobody, so it holds nothing for anybody. `suspend` stops pulling, not the need: a suspended pull that
//! is required still is; an optional one asks for nothing. Objects that are being deleted are not there.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::model_name::ModelName;

/// How many warnings there are at start-up before the rest is only counted.
const MOST_WARNINGS: usize = 20;

/// A fleet in one word, from the worst on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It can't do what it is there for.
    Unhealthy,
    /// It can, but something is not as declared.
    Degraded,
    /// Everything is as declared.
    Healthy,
}

/// One node as it was last seen.
#[derive(Clone, Debug, Default)]
pub struct SeenNode<'a> {
    /// Name of the object.
    pub name: &'a str,
    /// Whether it is given requests.
    pub ready: bool,
    /// Whether it was taken out of service on purpose.
    pub drained: bool,
    /// Why it is ready or not, for programs.
    pub reason: &'a str,
    /// The same for people.
    pub message: &'a str,
    /// Name and digest of each model on it.
    pub models: Vec<(&'a str, &'a str)>,
}

/// One model that nodes must hold.
#[derive(Clone, Debug, Default)]
pub struct SeenPull<'a> {
    /// Name of the object.
    pub name: &'a str,
    /// The model as people write it.
    pub model: &'a str,
    /// Whether the fleet is no good without it.
    pub required: bool,
    /// Whether it is held back.
    pub suspended: bool,
    /// The nodes that must have it, as positions in the list of nodes.
    pub selected: Vec<usize>,
    /// The digests that will do; empty: any.
    pub digests: Vec<&'a str>,
    /// What the pull says about itself; may be empty.
    pub message: &'a str,
}

/// A provider of models elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderHealth<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Whether its settings are complete.
    pub configured: bool,
    /// Whether its key is there.
    pub key_present: bool,
    /// Whether it answers.
    pub reachable: bool,
}

/// A node in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeHealth<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Whether it is given requests.
    pub ready: bool,
    /// Why, for programs.
    pub reason: &'a str,
    /// Why, for people.
    pub message: &'a str,
}

/// A model that ready nodes hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelHealth<'a> {
    /// The nodes' namespace.
    pub namespace: &'a str,
    /// Its name on them.
    pub name: &'a str,
    /// Its digest; nodes with different digests make different entries.
    pub digest: &'a str,
    /// Whether a pull requires it.
    pub required: bool,
    /// The ready nodes that have it.
    pub nodes: Vec<&'a str>,
}

/// Why a model counts as missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Lack {
    /// No ready node has it.
    OnNoNode,
    /// It is there, but not on every ready node that must have it.
    NotOnAllNodes,
    /// The pull's selector picks no node.
    NoNodes,
}

/// A model that is not where it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing<'a> {
    /// The pull's namespace.
    pub namespace: &'a str,
    /// The model.
    pub name: &'a str,
    /// The pull that asks for it.
    pub pull: &'a str,
    /// Whether the fleet is no good without it.
    pub required: bool,
    /// Why it counts as missing.
    pub reason: Lack,
    /// In words, with what the pull says about it.
    pub message: String,
}

/// A report in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Nodes.
    pub nodes: usize,
    /// Nodes that are given requests.
    pub ready_nodes: usize,
    /// Nodes taken out on purpose.
    pub drained_nodes: usize,
    /// Models on ready nodes.
    pub models: usize,
    /// Models that are not where they must be.
    pub missing: usize,
    /// Those of them that are required.
    pub missing_required: usize,
}

/// What `/health/models` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report<'a> {
    /// In one word.
    pub status: Status,
    /// In numbers.
    pub counts: Counts,
    /// What is not where it must be, required ones first.
    pub missing: Vec<Missing<'a>>,
    /// Every node; left out of a summary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<NodeHealth<'a>>>,
    /// Every model on ready nodes; left out of a summary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<ModelHealth<'a>>>,
    /// Every provider.
    pub providers: Vec<ProviderHealth<'a>>,
}

/// The health of one namespace.
pub fn report<'a>(
    namespace: &'a str,
    nodes: &[SeenNode<'a>],
    pulls: &[SeenPull<'a>],
    providers: Vec<ProviderHealth<'a>>,
) -> Report<'a> {
    let held = Held::new(nodes);
    let mut missing: Vec<_> = pulls.iter().filter_map(|pull| lack(namespace, pull, nodes, &held)).collect();
    missing.sort_by_key(|missing| !missing.required);
    let models = held.models(namespace, pulls);
    let of = |pick: fn(&SeenNode<'_>) -> bool| nodes.iter().filter(|node| pick(node)).count();
    let counts = Counts {
        nodes: nodes.len(),
        ready_nodes: of(|node| node.ready),
        drained_nodes: of(|node| node.drained),
        models: models.len(),
        missing: missing.len(),
        missing_required: missing.iter().filter(|missing| missing.required).count(),
    };
    let listed = nodes.iter().map(|node| NodeHealth {
        namespace,
        name: node.name,
        ready: node.ready,
        reason: node.reason,
        message: node.message,
    });
    Report {
        status: status(nodes, &missing, &providers),
        counts,
        nodes: Some(listed.collect()),
        models: Some(models),
        missing,
        providers,
    }
}

/// Several namespaces as one: as bad as the worst of them.
pub fn join<'a>(reports: &[Report<'a>]) -> Report<'a> {
    let sum = |pick: fn(&Counts) -> usize| reports.iter().map(|report| pick(&report.counts)).sum();
    let mut missing: Vec<_> = reports.iter().flat_map(|report| report.missing.iter().cloned()).collect();
    missing.sort_by_key(|missing| !missing.required);
    Report {
        status: reports.iter().map(|report| report.status).min().unwrap_or(Status::Healthy),
        counts: Counts {
            nodes: sum(|counts| counts.nodes),
            ready_nodes: sum(|counts| counts.ready_nodes),
            drained_nodes: sum(|counts| counts.drained_nodes),
            models: sum(|counts| counts.models),
            missing: sum(|counts| counts.missing),
            missing_required: sum(|counts| counts.missing_required),
        },
        nodes: Some(reports.iter().flat_map(|report| report.nodes.iter().flatten().cloned()).collect()),
        models: Some(reports.iter().flat_map(|report| report.models.iter().flatten().cloned()).collect()),
        missing,
        providers: reports.iter().flat_map(|report| report.providers.iter().cloned()).collect(),
    }
}

impl<'a> Report<'a> {
    /// The same without the lists of nodes and models, which are long.
    pub fn summary(&self) -> Self {
        Self {
            status: self.status,
            counts: self.counts,
            nodes: None,
            models: None,
            missing: self.missing.clone(),
            providers: self.providers.clone(),
        }
    }

    /// What to say in the log when a process starts: one line for each missing model, each node that is away and each
    /// provider without a key, and at the end how many are not named.
    pub fn warnings(&self) -> Vec<String> {
        let models = self.missing.iter().map(|missing| {
            let kind = if missing.required { "required model" } else { "model" };
            format!(
                "{kind} {} is missing (ModelPull {}/{}): {}",
                missing.name, missing.namespace, missing.pull, missing.message
            )
        });
        let away = self.nodes.iter().flatten().filter(|node| !node.ready && !is_drained(node));
        let nodes = away.map(|node| format!("node {}/{} is not ready: {}", node.namespace, node.name, node.message));
        let keyless = self.providers.iter().filter(|provider| !provider.key_present);
        let providers = keyless.map(|provider| format!("provider {}/{} has no key", provider.namespace, provider.name));
        let mut lines: Vec<String> = models.chain(nodes).chain(providers).collect();
        let rest = lines.len().saturating_sub(MOST_WARNINGS);
        lines.truncate(MOST_WARNINGS);
        if rest > 0 {
            lines.push(format!("and {rest} more: see /health/models"));
        }
        lines
    }
}

/// The reason of a node's `Ready` condition while it is in maintenance.
pub const MAINTENANCE: &str = "Maintenance";

fn is_drained(node: &NodeHealth<'_>) -> bool {
    node.reason == MAINTENANCE
}

fn status(nodes: &[SeenNode<'_>], missing: &[Missing<'_>], providers: &[ProviderHealth<'_>]) -> Status {
    let no_node = !nodes.is_empty() && !nodes.iter().any(|node| node.ready);
    let not_served = missing.iter().any(|missing| missing.required && missing.reason == Lack::OnNoNode);
    let away = nodes.iter().any(|node| !node.ready && !node.drained);
    let unusable =
        providers.iter().any(|provider| !provider.configured || !provider.key_present || !provider.reachable);
    if no_node || not_served {
        Status::Unhealthy
    } else if away || unusable || !missing.is_empty() {
        Status::Degraded
    } else {
        Status::Healthy
    }
}

/// What ready nodes hold, by the full name of the model.
struct Held<'a> {
    /// Position of the node, the model's name there, its digest.
    holders: HashMap<String, Vec<(usize, &'a str, &'a str)>>,
    names: Vec<&'a str>,
}

impl<'a> Held<'a> {
    fn new(nodes: &[SeenNode<'a>]) -> Self {
        // Parsing a name costs far more than finding it again, and a fleet has few names on many nodes.
        let mut slots: HashMap<&str, usize> = HashMap::new();
        let mut found: Vec<Vec<(usize, &str, &str)>> = Vec::new();
        for (index, node) in nodes.iter().enumerate().filter(|(_, node)| node.ready) {
            for (name, digest) in &node.models {
                let slot = *slots.entry(name).or_insert_with(|| {
                    found.push(Vec::new());
                    found.len() - 1
                });
                found[slot].push((index, *name, *digest));
            }
        }
        let mut holders: HashMap<String, Vec<(usize, &str, &str)>> = HashMap::new();
        for (name, slot) in slots {
            holders.entry(full_name(name)).or_default().append(&mut found[slot]);
        }
        Self { holders, names: nodes.iter().map(|node| node.name).collect() }
    }

    /// The ready nodes with this model, of one of these digests if any is given.
    fn nodes(&self, model: &str, digests: &[&str]) -> impl Iterator<Item = usize> {
        let holders = self.holders.get(&full_name(model)).map(Vec::as_slice).unwrap_or_default();
        let fitting = holders.iter().filter(|(_, _, digest)| digests.is_empty() || digests.contains(digest));
        fitting.map(|(index, _, _)| *index)
    }

    fn models(&self, namespace: &'a str, pulls: &[SeenPull<'_>]) -> Vec<ModelHealth<'a>> {
        let required: Vec<String> =
            pulls.iter().filter(|pull| pull.required).map(|pull| full_name(pull.model)).collect();
        let mut models: Vec<ModelHealth<'a>> = Vec::new();
        for (model, holders) in &self.holders {
            let mut by_digest: BTreeMap<&str, ModelHealth<'a>> = BTreeMap::new();
            let mut holders = holders.clone();
            holders.sort_unstable();
            for (index, name, digest) in holders {
                let entry = by_digest.entry(digest).or_insert_with(|| ModelHealth {
                    namespace,
                    name,
                    digest,
                    required: required.contains(model),
                    nodes: Vec::new(),
                });
                entry.nodes.push(self.names[index]);
            }
            models.extend(by_digest.into_values());
        }
        models.sort_by(|a, b| (a.name, a.digest).cmp(&(b.name, b.digest)));
        models
    }
}

/// One spelling for all spellings of a model's name.
fn full_name(name: &str) -> String {
    name.parse::<ModelName>().map_or_else(|_| name.to_owned(), |name| name.to_string()).to_ascii_lowercase()
}

fn lack<'a>(namespace: &'a str, pull: &SeenPull<'a>, nodes: &[SeenNode<'a>], held: &Held<'a>) -> Option<Missing<'a>> {
    if pull.suspended && !pull.required {
        return None;
    }
    let mut holds = vec![false; nodes.len()];
    held.nodes(pull.model, &pull.digests).for_each(|index| holds[index] = true);
    let must: Vec<usize> = pull.selected.iter().copied().filter(|index| nodes[*index].ready).collect();
    let lacking: Vec<&str> = must.iter().filter(|index| !holds[**index]).map(|index| nodes[*index].name).collect();
    let (reason, what) = if !holds.contains(&true) {
        (Lack::OnNoNode, format!("no ready node has {}", with_digests(pull)))
    } else if pull.selected.is_empty() {
        (Lack::NoNodes, "spec.nodeSelector picks no OllamaNode of this namespace".to_owned())
    } else if !lacking.is_empty() {
        let (count, of) = (must.len() - lacking.len(), must.len());
        (
            Lack::NotOnAllNodes,
            format!("{count} of {of} ready nodes have {}, {} lacks it", with_digests(pull), lacking[0]),
        )
    } else {
        return None;
    };
    let detail = if pull.message.is_empty() { String::new() } else { format!("; {}", pull.message) };
    Some(Missing {
        namespace,
        name: pull.model,
        pull: pull.name,
        required: pull.required,
        reason,
        message: format!("{what}{detail}"),
    })
}

fn with_digests(pull: &SeenPull<'_>) -> String {
    match pull.digests.first() {
        Some(digest) => format!("{} with digest {digest}", pull.model),
        None => pull.model.to_owned(),
    }
}
