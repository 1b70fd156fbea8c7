//! Which digest a version stands for and which nodes need its alias: pure.

use std::{collections::BTreeSet, sync::Arc};

use super::around::Around;
use crate::{
    api::{ModelVersion, OllamaNode},
    domain::{alias::alias, registry::LineageFault},
};

/// What follows from what is known.
pub struct Plan {
    /// The digest, or why it isn't known.
    pub digest: Result<String, Unresolved>,
    /// The name by which nodes serve the version.
    pub alias: String,
    /// Index of the node and the name there to copy from.
    pub copies: Vec<(usize, String)>,
    /// Whether nodes keep the alias.
    pub is_kept: bool,
    /// What is wrong with the version's parent.
    pub lineage: Option<LineageFault>,
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
    /// It can't have the parent that it names.
    Lineage(LineageFault),
}

/// Resolves the digest: on record, else pinned by the spec, else the one that all ready nodes agree on. What was resolved
/// once stays so whatever becomes of its parent.
pub fn plan(around: &Around<'_>, nodes: &[Arc<OllamaNode>], id: &str) -> Plan {
    let version = around.version;
    let alias = alias(id, &version.spec.model, &version.spec.version);
    let on_record = version.status.as_ref().and_then(|status| status.digest.clone());
    let lineage = around.lineage_fault();
    let digest = match (around.older_twin(), on_record, &lineage) {
        (Some(by), ..) => Err(Unresolved::Taken { by }),
        (None, Some(digest), _) => Ok(digest),
        (None, None, Some(fault)) => Err(Unresolved::Lineage(fault.clone())),
        (None, None, None) => digest(version, nodes),
    };
    let is_kept = around.is_kept();
    let copies = match &digest {
        Ok(digest) if is_kept => copies(nodes, &alias, digest),
        _ => Vec::new(),
    };
    Plan { digest, alias, copies, is_kept, lineage }
}

fn digest(version: &ModelVersion, nodes: &[Arc<OllamaNode>]) -> Result<String, Unresolved> {
    let Some(source) = &version.spec.source.ollama else { return Err(Unresolved::NowhereYet) };
    if let Some(digest) = &source.digest {
        return Ok(digest.clone());
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
