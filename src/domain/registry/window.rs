//! Which versions keep their names on nodes.

use std::time::Duration;

use jiff::Timestamp;

use super::Lifecycle;
use crate::domain::rollout::{Outcome, State};

/// A version that is not kept loses its names on nodes after this: a gateway that heard nothing for a minute sends no
/// requests to a canary any more.
pub const WITHDRAWN_AFTER: Duration = Duration::from_secs(65);

/// A version of the model that a deployment serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The version.
    pub version: &'a str,
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// When it last began to serve all requests.
    pub deployed_at: Option<Timestamp>,
}

/// What a deployment says about its versions.
pub struct Keeping<'a> {
    /// What it remembers.
    pub state: &'a State,
    /// The version that it asks for, and those that commands name.
    pub wanted: Vec<&'a str>,
    /// How many earlier versions it keeps.
    pub window: usize,
}

/// Whether a version stays on nodes: it has requests, may have them again, is asked for, was never served, or is one of
/// the last `window` that served and weren't taken back.
pub fn is_kept(candidate: &Candidate<'_>, all: &[Candidate<'_>], keeping: &Keeping<'_>) -> bool {
    let Keeping { state, wanted, window } = keeping;
    let version = candidate.version;
    if candidate.lifecycle != Lifecycle::Archived
        || wanted.contains(&version)
        || state.versions_in_use().any(|used| used == version)
    {
        return true;
    }
    let mut earlier: Vec<&Candidate<'_>> = all.iter().filter(|other| is_earlier(other, state)).collect();
    earlier.sort_by_key(|other| std::cmp::Reverse((other.deployed_at, other.version)));
    earlier.iter().take(*window).any(|other| other.version == version)
}

/// Whether a version served all requests, gave way to another one, and may come back.
fn is_earlier(candidate: &Candidate<'_>, state: &State) -> bool {
    let last = state.history.iter().find(|entry| entry.release.version == candidate.version);
    let was_taken_back = last.is_some_and(|entry| entry.outcome == Outcome::RolledBack);
    let is_live = state.stable_version() == Some(candidate.version);
    candidate.deployed_at.is_some() && !was_taken_back && !is_live
}
