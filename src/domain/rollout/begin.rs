//! How a version begins to serve: at once, as a canary, or again.

use std::cmp::Ordering;

use super::{
    Canary, HistoryEntry, Outcome, Release, Shadow, Step,
    audit::name,
    next_rollout_id,
    plan::{Cause, Draft, Next},
};
use crate::domain::{analysis::Analysis, version};

impl Draft<'_> {
    /// A new version, once it can serve.
    pub(super) fn begin(&mut self) -> Next {
        let spec = self.input.spec;
        let ready = self.input.versions.get(self.target()).filter(|a| a.nodes >= spec.min_nodes.max(1));
        let Some(release) = ready.and_then(|a| a.release.clone()) else { return Next::Done };
        let is_set_back = self.is_set_back_to(&release);
        if spec.paused && self.state.stable.is_some() && !is_set_back {
            return Next::Done;
        }
        // Also where the spec was set back: a command that was meant for what gives way must not hit what takes its place.
        self.state.rollout_id = next_rollout_id(&spec.id_prefix, &self.state.rollout_id);
        let by = name(self.input.authors.version.as_ref());
        if is_set_back {
            let why = format!("spec.version was set back to {}", release.version);
            self.replace_stable(release, &Cause { why: &why, by }, true);
            self.state.rejected = None;
            return Next::Done;
        }
        match spec.steps.first().filter(|_| self.state.stable.is_some()) {
            Some(step) => self.begin_canary(release, step, by),
            None => {
                let why = if self.state.stable.is_some() { "switched at once" } else { "first version" };
                self.replace_stable(release, &Cause { why, by }, false);
            }
        }
        Next::Done
    }

    /// Whether the spec asks for an older version that was live: to be had again at once, without steps.
    fn is_set_back_to(&self, release: &Release) -> bool {
        let state = &self.state;
        let is_older = state
            .stable_version()
            .is_some_and(|stable| version::compare(self.target(), stable) == Some(Ordering::Less));
        let is_this_live =
            |entry: &HistoryEntry| entry.release.version == release.version && entry.outcome == Outcome::Deployed;
        // The history is short: the version before may have dropped out of it.
        let is_previous = state.previous.as_ref().is_some_and(|previous| previous.version == release.version);
        is_older && (is_previous || state.history.iter().any(is_this_live))
    }

    fn begin_canary(&mut self, release: Release, step: &Step, by: &str) {
        let spec = self.input.spec;
        let version = release.version.clone();
        let (weight, duration, message) = match spec.shadow {
            Some(Shadow { share, duration, .. }) => {
                (0, duration, format!("{version} gets copies of {share} % of requests"))
            }
            None => (step.weight, step.duration, format!("{version} takes {} % of requests", step.weight)),
        };
        let shadow = spec.shadow.map(|shadow| shadow.share);
        let step_started_at = self.input.now;
        self.state.canary = Some(Canary { release, weight, shadow, step: 0, step_started_at, lost_since: None });
        self.wake_after = Some(duration);
        let analysis = || Analysis::new(&self.state.rollout_id, 0, shadow.is_some());
        self.state.analysis = spec.analysis.as_ref().map(|_| analysis());
        self.fill_stable();
        self.notice("RolloutStarted", &version, by, message);
    }
}
