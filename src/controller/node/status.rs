//! What people see of a node: pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::observe::Seen;
use crate::{
    api::{NodeVersion, OllamaNode, OllamaNodeStatus},
    domain::{
        alias,
        conditions::{self, ConditionStatus, Finding, READY},
        model_name::ModelName,
        node::{NodeModel, Probe, ProbeFault},
    },
};

/// What changes about the models that Drover put on a node.
#[derive(Default)]
pub struct Put {
    /// On record, not seen at the last look, and wanted by nobody.
    pub unwanted: Vec<String>,
    /// Not on record yet.
    pub new: Vec<String>,
}

/// The status after a look. `id` is this installation's part of aliases.
pub fn status(node: &OllamaNode, seen: Seen, id: &str, put: &Put, now: Timestamp) -> OllamaNodeStatus {
    let earlier = node.status.clone().unwrap_or_default();
    let (finding, mut status) = match seen {
        Some(Ok(probe)) => (ready(node, &probe), observed(probe, id, &earlier)),
        Some(Err(fault)) => (away(node, fault), OllamaNodeStatus { stale: true, ..earlier.clone() }),
        None if earlier.conditions.is_empty() => {
            let message = "the first look has not been answered yet";
            let unknown = Finding::new(READY, ConditionStatus::Unknown, "Probing", message);
            (unknown, earlier.clone())
        }
        None => return OllamaNodeStatus { pulled: pulled(&earlier, &earlier, put), ..earlier },
    };
    status.pulled = pulled(&earlier, &status, put);
    status.observed_generation = node.metadata.generation;
    status.conditions = conditions::merge(&earlier.conditions, vec![finding], node.metadata.generation, now);
    status
}

/// The models that Drover put there. What is gone and nobody wants is forgotten.
fn pulled(earlier: &OllamaNodeStatus, now: &OllamaNodeStatus, put: &Put) -> Vec<String> {
    let is_held = |name: &String| now.models.iter().any(|model| ModelName::same(&model.name, name));
    let kept = earlier.pulled.iter().filter(|name| is_held(name) || !put.unwanted.contains(name));
    let all: BTreeSet<String> = kept.chain(&put.new).cloned().collect();
    all.into_iter().collect()
}

fn ready(node: &OllamaNode, probe: &Probe) -> Finding {
    if node.spec.maintenance {
        return Finding::new(
            READY,
            false,
            "Maintenance",
            "drained by spec.maintenance: it gets no requests and no pulls",
        );
    }
    Finding::new(READY, true, "Answering", format!("Ollama {} answers at {}", probe.version, node.spec.url))
}

fn away(node: &OllamaNode, fault: ProbeFault) -> Finding {
    Finding::new(READY, false, fault.reason(), format!("{}: {}", node.spec.url, fault.advice()))
}

fn observed(probe: Probe, id: &str, earlier: &OllamaNodeStatus) -> OllamaNodeStatus {
    let (aliases, models): (Vec<_>, Vec<_>) = probe.models.into_iter().partition(|model| alias::is_hidden(&model.name));
    let loaded = |name: &str| probe.loaded.iter().any(|loaded| loaded == name);
    let versions = aliases.into_iter().filter(|model| alias::is_own(id, &model.name));
    OllamaNodeStatus {
        version: probe.version,
        stale: false,
        model_count: models.len() as i64,
        models,
        versions: versions
            .map(|model| NodeVersion {
                loaded: loaded(&model.name),
                memory_bytes: probe.memory.get(&model.name).copied().or_else(|| seen_before(earlier, &model)),
                alias: model.name,
                digest: model.digest,
            })
            .collect(),
        loaded: probe.loaded.iter().filter_map(|name| shown(name, id)).collect(),
        ..OllamaNodeStatus::default()
    }
}

/// The bytes that a model took when it was in memory.
fn seen_before(earlier: &OllamaNodeStatus, model: &NodeModel) -> Option<i64> {
    let same = |held: &&NodeVersion| held.alias == model.name && held.digest == model.digest;
    earlier.versions.iter().find(same).and_then(|held| held.memory_bytes)
}

/// A loaded model as people know it: a version as `MODEL:VERSION`, and nothing of other installations.
fn shown(name: &str, id: &str) -> Option<String> {
    match name.split_once('/') {
        Some((_, version)) if alias::is_own(id, name) => Some(version.to_owned()),
        _ => (!alias::is_hidden(name)).then(|| name.to_owned()),
    }
}
