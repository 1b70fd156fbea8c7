//! What people see of a node: pure.

use jiff::Timestamp;

use super::observe::Seen;
use crate::{
    api::{NodeVersion, OllamaNode, OllamaNodeStatus},
    domain::{
        alias,
        conditions::{self, ConditionStatus, Finding, READY},
        node::{Probe, ProbeFault},
    },
};

/// The status after a look. `id` is this installation's part of aliases.
pub fn status(node: &OllamaNode, seen: Seen, id: &str, now: Timestamp) -> OllamaNodeStatus {
    let earlier = node.status.clone().unwrap_or_default();
    let (finding, mut status) = match seen {
        Some(Ok(probe)) => (ready(node, &probe), observed(probe, id)),
        Some(Err(fault)) => (away(node, fault), OllamaNodeStatus { stale: true, ..earlier.clone() }),
        None if earlier.conditions.is_empty() => {
            let message = "the first look has not been answered yet";
            let unknown = Finding::new(READY, ConditionStatus::Unknown, "Probing", message);
            (unknown, earlier.clone())
        }
        None => return earlier,
    };
    status.observed_generation = node.metadata.generation;
    status.conditions = conditions::merge(&earlier.conditions, vec![finding], node.metadata.generation, now);
    status
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

fn observed(probe: Probe, id: &str) -> OllamaNodeStatus {
    let (aliases, models): (Vec<_>, Vec<_>) = probe.models.into_iter().partition(|model| alias::is_alias(&model.name));
    let loaded = |name: &str| probe.loaded.iter().any(|loaded| loaded == name);
    let versions = aliases.into_iter().filter(|model| alias::is_own(id, &model.name));
    OllamaNodeStatus {
        version: probe.version,
        stale: false,
        model_count: models.len() as i64,
        models,
        versions: versions
            .map(|model| NodeVersion { loaded: loaded(&model.name), alias: model.name, digest: model.digest })
            .collect(),
        loaded: probe.loaded.iter().filter_map(|name| shown(name, id)).collect(),
        ..OllamaNodeStatus::default()
    }
}

/// A loaded model as people know it: a version as `MODEL:VERSION`, and nothing of other installations.
fn shown(name: &str, id: &str) -> Option<String> {
    match name.split_once('/') {
        Some((_, version)) if alias::is_own(id, name) => Some(version.to_owned()),
        _ => (!alias::is_alias(name)).then(|| name.to_owned()),
    }
}
