//! Which digest a version stands for and which nodes need its alias: pure.

use std::{collections::BTreeSet, sync::Arc};

use kube::ResourceExt;

use crate::{
    api::{ModelVersion, OllamaNode},
    domain::alias::alias,
};

/// What follows from what is known.
pub struct Plan {
    /// The digest, or why it isn't known.
    pub digest: Result<String, Unresolved>,
    /// The name by which nodes serve the version.
    pub alias: String,
    /// Index of the node and the name there to copy from.
    pub copies: Vec<(usize, String)>,
}

/// Why a version's digest isn't known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// No ready node holds the tag.
    NowhereYet,
    /// Nodes hold different digests under the tag.
    DigestsDiffer,
    /// Another object is this version already.
    Taken {
        /// Its name.
        by: String,
    },
}

/// Resolves the digest: on record, else pinned by the spec, else the one that all ready nodes agree on.
pub fn plan(version: &ModelVersion, all: &[Arc<ModelVersion>], nodes: &[Arc<OllamaNode>], id: &str) -> Plan {
    let alias = alias(id, &version.spec.model, &version.spec.version);
    let digest = match older_twin(version, all) {
        Some(by) => Err(Unresolved::Taken { by }),
        None => digest(version, nodes),
    };
    let copies = match &digest {
        Ok(digest) => copies(nodes, &alias, digest),
        Err(_) => Vec::new(),
    };
    Plan { digest, alias, copies }
}

/// Whether two objects would have one alias: Ollama's names, hence aliases, don't tell upper from lower case.
pub fn are_twins(a: &ModelVersion, b: &ModelVersion) -> bool {
    a.spec.model == b.spec.model && a.spec.version.eq_ignore_ascii_case(&b.spec.version)
}

/// An older object of the same model and version.
pub fn older_twin(version: &ModelVersion, all: &[Arc<ModelVersion>]) -> Option<String> {
    let age = |version: &ModelVersion| (version.creation_timestamp(), version.name_any());
    let twin = all.iter().find(|other| are_twins(other, version) && age(other) < age(version));
    twin.map(|twin| twin.name_any())
}

fn digest(version: &ModelVersion, nodes: &[Arc<OllamaNode>]) -> Result<String, Unresolved> {
    let Some(source) = &version.spec.source.ollama else { return Err(Unresolved::NowhereYet) };
    let on_record = version.status.as_ref().and_then(|status| status.digest.clone());
    if let Some(digest) = on_record.or_else(|| source.digest.clone()) {
        return Ok(digest);
    }
    let ready = nodes.iter().filter(|node| node.usable().is_ok());
    let held: BTreeSet<&str> =
        ready.filter_map(|node| node.model(&source.tag)).map(|model| model.digest.as_str()).collect();
    match held.len() {
        0 => Err(Unresolved::NowhereYet),
        1 => held.first().map(|digest| (*digest).to_owned()).ok_or(Unresolved::NowhereYet),
        _ => Err(Unresolved::DigestsDiffer),
    }
}

/// A ready node that holds the digest under some name, but not under the alias, gets the alias.
fn copies(nodes: &[Arc<OllamaNode>], alias: &str, digest: &str) -> Vec<(usize, String)> {
    let needs = |node: &OllamaNode| {
        if node.usable().is_err() || node.holds(alias, digest).is_some() {
            return None;
        }
        let status = node.status.as_ref()?;
        let model = status.models.iter().find(|model| model.digest == digest).map(|model| &model.name);
        let other = status.versions.iter().find(|held| held.digest == digest).map(|held| &held.alias);
        model.or(other).cloned()
    };
    nodes.iter().enumerate().filter_map(|(index, node)| Some((index, needs(node)?))).collect()
}
