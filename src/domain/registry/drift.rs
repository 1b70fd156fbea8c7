//! Nodes on which a tag no longer stands for what a version was made from.

/// Whom a message names.
const NAMED: usize = 5;

/// A node whose tag has another digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift<'a> {
    /// The node's name.
    pub node: &'a str,
    /// What the tag stands for there.
    pub digest: &'a str,
}

/// What people are told of nodes whose `tag` has another digest than the version; `None` when there are none. The
/// version is served by its digest all the same.
pub fn drifted(version: &str, tag: &str, digest: &str, drifts: &[Drift<'_>]) -> Option<String> {
    let first = drifts.first()?;
    let named: Vec<&str> = drifts.iter().take(NAMED).map(|drift| drift.node).collect();
    let more = match drifts.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "{tag} has another digest on {}{more} ({} on {}): {version} stays what it was, {}; register what the tag stands \
         for now as another version, or leave it",
        named.join(", "),
        short(first.digest),
        first.node,
        short(digest)
    ))
}

fn short(digest: &str) -> &str {
    const LENGTH: usize = "sha256:".len() + 12;
    digest.get(..LENGTH).unwrap_or(digest)
}
