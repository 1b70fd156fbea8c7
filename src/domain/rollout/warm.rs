//! A version that is to be in memory before its first request.

use super::{Availability, Outcome, State};

/// A node that holds a version and has not loaded it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cold {
    /// The node's name.
    pub node: String,
    /// Why it could not load it, the last time.
    pub failure: Option<String>,
}

/// Whether a version has had requests, or may soon have them again: it is gone back to, which waits for nothing.
pub fn has_served(state: &State, version: &str) -> bool {
    let served = state.history.iter().filter(|entry| entry.outcome == Outcome::Deployed);
    state.versions_in_use().chain(served.map(|entry| entry.release.version.as_str())).any(|known| known == version)
}

/// Nodes that have yet to load a version don't count as its nodes. Returns whether that keeps it from beginning, which its
/// message then says.
pub fn wait_for(found: &mut Availability, version: &str, cold: &[Cold], min_nodes: u32) -> bool {
    found.nodes = found.nodes.saturating_sub(cold.len() as u32);
    if cold.is_empty() || found.nodes >= min_nodes.max(1) {
        return false;
    }
    let names: Vec<&str> = cold.iter().map(|cold| cold.node.as_str()).collect();
    let verb = if cold.len() == 1 { "loads" } else { "load" };
    found.message = format!("{} {verb} {version} before its first request", names.join(", "));
    let failed = cold.iter().find_map(|cold| Some((&cold.node, cold.failure.as_ref()?)));
    if let Some((node, why)) = failed {
        found.message += &format!("; {node} could not: {why}");
    }
    true
}
