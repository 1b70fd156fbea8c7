//! Where a version is in its life. Only deployments move it.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::rollout::{Outcome, State};

/// A version's place in its deployment's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Lifecycle {
    /// No deployment has served it.
    #[default]
    NotDeployed,
    /// A deployment tries it; `weight` says with how many requests.
    Canary,
    /// A deployment serves it.
    Deployed,
    /// A deployment served it earlier.
    Archived,
}

/// A place in life with what belongs to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// The place.
    pub lifecycle: Lifecycle,
    /// Percent of its deployment's requests.
    pub weight: u8,
    /// When it last began to serve all requests.
    pub deployed_at: Option<Timestamp>,
}

/// The place of a version by the deployments of its model, after an earlier one. What was served once is archived when
/// no deployment knows it any more.
pub fn stage<'a>(version: &str, rollouts: impl IntoIterator<Item = &'a State>, earlier: Stage) -> Stage {
    let was_served = earlier.lifecycle != Lifecycle::NotDeployed;
    let mut stage = Stage {
        lifecycle: if was_served { Lifecycle::Archived } else { Lifecycle::NotDeployed },
        weight: 0,
        ..earlier
    };
    for state in rollouts {
        let own = state.history.iter().filter(|entry| entry.release.version == version);
        let deployed = own.clone().filter(|entry| entry.outcome == Outcome::Deployed).map(|entry| entry.at).max();
        stage.deployed_at = stage.deployed_at.max(deployed);
        if let Some(stable) = state.stable.as_ref().filter(|side| side.release.version == version) {
            return Stage { lifecycle: Lifecycle::Deployed, weight: stable.weight, ..stage };
        }
        if let Some(canary) = state.canary.as_ref().filter(|canary| canary.release.version == version) {
            return Stage { lifecycle: Lifecycle::Canary, weight: canary.weight, ..stage };
        }
        if own.count() > 0 {
            stage.lifecycle = Lifecycle::Archived;
        }
    }
    stage
}

/// Whether a version's place changes from one state of a rollout to the next.
pub fn moves(before: &State, after: &State) -> bool {
    let places = |state: &State| {
        let stable = state.stable.as_ref().map(|side| (side.release.version.clone(), side.weight));
        let canary = state.canary.as_ref().map(|canary| (canary.release.version.clone(), canary.weight));
        (stable, canary)
    };
    places(before) != places(after)
}

/// Whether a model that can do this, in Ollama's words, makes vectors and no text.
pub fn only_embeds(capabilities: &[String]) -> bool {
    let has = |name: &str| capabilities.iter().any(|capability| capability == name);
    has("embedding") && !has("completion")
}

/// As files have it: `not_deployed`, `canary_20pct`, `deployed`, `archived`.
impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lifecycle {
            Lifecycle::NotDeployed => f.write_str("not_deployed"),
            Lifecycle::Canary => write!(f, "canary_{}pct", self.weight),
            Lifecycle::Deployed => f.write_str("deployed"),
            Lifecycle::Archived => f.write_str("archived"),
        }
    }
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let of = |lifecycle, weight| Ok(Self { lifecycle, weight, deployed_at: None });
        match text {
            "not_deployed" => of(Lifecycle::NotDeployed, 0),
            "deployed" => of(Lifecycle::Deployed, 100),
            "archived" => of(Lifecycle::Archived, 0),
            _ => {
                let weight = text.strip_prefix("canary_").and_then(|rest| rest.strip_suffix("pct"));
                match weight.and_then(|weight| weight.parse().ok()).filter(|weight| *weight < 100) {
                    Some(weight) => of(Lifecycle::Canary, weight),
                    None => Err(format!(
                        "{text:?} is no place in a version's life: \
                         write not_deployed, canary_20pct (0 to 99), deployed or archived"
                    )),
                }
            }
        }
    }
}
