//! What people ask for by `drover rollout`: each command is an annotation that names the rollout it means.

use std::cmp::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Outcome, Release,
    audit::name,
    holders, next_rollout_id,
    plan::{Cause, Draft, Next},
};
use crate::domain::version;

/// Commands that were given as annotations, as last seen or last handled. Each names the rollout that it means, so
/// one left over from an earlier rollout does nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Commands {
    /// `drover.dev/promote`: `ROLLOUT/STEP`; the step before the first one is `shadow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote: Option<String>,
    /// `drover.dev/undo`: `ROLLOUT`, or `ROLLOUT/VERSION` for the version to go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<String>,
    /// `drover.dev/abort`: `ROLLOUT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<String>,
    /// `drover.dev/retry`: `ROLLOUT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<String>,
    /// `drover.dev/pause`: `ROLLOUT`. It holds the canary for as long as it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<String>,
}

/// Where an undo leads.
enum Back {
    /// The canary goes, and what serves stays.
    CallOff,
    /// Another version serves.
    To(Release),
    /// Nowhere: why.
    Nowhere(String),
}

impl Draft<'_> {
    /// `drover rollout undo`: the canary goes, or else the version that is live gives way to the one before it, or to
    /// the one that was named.
    pub(super) fn obey_undo(&mut self) -> Next {
        let undo = &self.input.commands.undo;
        let Some(command) = undo.as_ref().filter(|_| *undo != self.state.handled.undo) else { return Next::Continue };
        let (rollout, named) = match command.split_once('/') {
            Some((rollout, version)) => (rollout, Some(version)),
            None => (command.as_str(), None),
        };
        if !self.is_meant(Some(rollout)) {
            return Next::Continue;
        }
        let by = name(self.input.authors.undo.as_ref());
        let cause = Cause { why: "undone by drover rollout undo", by };
        match self.way_back(named) {
            Back::CallOff => self.take_back_canary(&cause),
            // Flipping now would be an outage: the command stays open until a node holds the version.
            Back::To(release) if holders(self.input.versions, &release) == 0 => return Next::Continue,
            Back::To(release) => {
                self.take_back_canary(&cause);
                if named.is_some() {
                    // An undo without a version that stands elsewhere, in Git say, must not go back once more.
                    self.state.rollout_id = next_rollout_id(&self.input.spec.id_prefix, &self.state.rollout_id);
                }
                self.replace_stable(release, &cause, true);
            }
            Back::Nowhere(why) => {
                self.state.handled.undo.clone_from(undo);
                let version = named.or(self.state.stable_version()).unwrap_or_default().to_owned();
                self.notice("NothingToUndo", &version, by, why);
                return Next::Continue;
            }
        }
        self.state.handled.undo.clone_from(undo);
        Next::Done
    }

    /// Whether a command names this rollout, if there was one yet.
    fn is_meant(&self, rollout: Option<&str>) -> bool {
        rollout.is_some_and(|rollout| !rollout.is_empty() && rollout == self.state.rollout_id)
    }

    fn way_back(&self, named: Option<&str>) -> Back {
        let (stable, canary) = (self.state.stable_version(), self.state.canary_version());
        match named {
            None if canary.is_some() => Back::CallOff,
            None => {
                let nowhere = || Back::Nowhere("there is no earlier version to go back to".into());
                self.state.previous.clone().map_or_else(nowhere, Back::To)
            }
            Some(version) if Some(version) == stable && canary.is_some() => Back::CallOff,
            Some(version) => self.earlier(version).map_or_else(Back::Nowhere, Back::To),
        }
    }

    /// A version that somebody wants back by its name, or why it can't be had.
    fn earlier(&self, version: &str) -> Result<Release, String> {
        let state = &self.state;
        if state.stable_version() == Some(version) {
            return Err(format!("{version} has all requests already"));
        }
        if state.canary_version() == Some(version) {
            return Err(format!("{version} is on trial: `drover rollout promote` gives it more requests"));
        }
        if let Some(rejected) = state.rejected.as_ref().filter(|rejected| rejected.version == version) {
            return Err(format!(
                "{version} was taken back: {}; `drover rollout retry` tries it again",
                rejected.reason
            ));
        }
        if let Some(reason) = state.taken_back(version) {
            return Err(format!("{version} was taken back: {reason}; ask for it by spec.version"));
        }
        let live = state.history.iter().filter(|entry| entry.outcome == Outcome::Deployed).map(|entry| &entry.release);
        let was_live = state.previous.iter().chain(live).find(|release| release.version == version);
        let registered = self.input.versions.get(version).and_then(|found| found.release.as_ref());
        match (was_live, registered) {
            (_, None) => Err(format!(
                "there is no ModelVersion {version} of this model with a digest: `drover versions list` shows them"
            )),
            (Some(live), Some(now)) if live.identity() != now.identity() => {
                Err(format!("{version} was registered anew since it served: it is another model now"))
            }
            (None, Some(_)) if !self.is_older(version) => {
                Err(format!("{version} has never served: ask for it by spec.version"))
            }
            (_, Some(release)) => Ok(release.clone()),
        }
    }

    fn is_older(&self, version: &str) -> bool {
        let stable = self.state.stable_version();
        stable.is_some_and(|stable| version::compare(version, stable) == Some(Ordering::Less))
    }

    /// `drover rollout abort`: the canary goes; what went live meanwhile stays.
    pub(super) fn obey_abort(&mut self) -> Next {
        let abort = &self.input.commands.abort;
        if *abort == self.state.handled.abort || !self.is_meant(abort.as_deref()) {
            return Next::Continue;
        }
        self.state.handled.abort.clone_from(abort);
        let by = name(self.input.authors.abort.as_ref());
        if self.state.canary.is_some() {
            self.take_back_canary(&Cause { why: "called off by drover rollout abort", by });
            return Next::Done;
        }
        let stable = self.state.stable_version().unwrap_or_default().to_owned();
        self.notice("NothingToAbort", &stable, by, "no rollout is under way".into());
        Next::Continue
    }

    /// `drover rollout retry`: what was rejected may be tried again.
    pub(super) fn obey_retry(&mut self) -> Next {
        let retry = &self.input.commands.retry;
        if *retry != self.state.handled.retry && self.is_meant(retry.as_deref()) {
            self.state.handled.retry.clone_from(retry);
            if let Some(rejected) = self.state.rejected.take() {
                let by = name(self.input.authors.retry.as_ref());
                let message = format!("{} is tried again on request", rejected.version);
                self.notice("Retrying", &rejected.version, by, message);
            }
        }
        Next::Continue
    }

    /// Whether `drover rollout pause` holds the canary of this rollout.
    pub(super) fn is_held(&self) -> bool {
        self.state.canary.is_some() && self.is_meant(self.input.commands.pause.as_deref())
    }

    /// Says when a canary begins to be held, and when it is let go.
    pub(super) fn note_pause(&mut self) {
        let (before, held) = (self.input.state, self.is_held());
        self.state.paused = self.state.canary.is_some() && (held || self.input.spec.paused);
        self.state.handled.pause = self.input.commands.pause.clone().filter(|_| held);
        if before.paused == self.state.paused || before.canary_version() != self.state.canary_version() {
            return;
        }
        let Some(canary) = self.state.canary_version().map(str::to_owned) else { return };
        let by_command = held || before.handled.pause.is_some();
        let authors = self.input.authors;
        // `drover rollout resume` leaves the annotation empty, so that it still says who set it.
        let by = name(if by_command { authors.pause.as_ref() } else { authors.paused.as_ref() });
        if self.state.paused {
            let how = if held { "drover rollout pause" } else { "spec.paused" };
            self.notice("Paused", &canary, by, format!("{canary} is held at its step by {how}"));
        } else {
            self.notice("Resumed", &canary, by, format!("{canary} is no longer held at its step"));
        }
    }
}
