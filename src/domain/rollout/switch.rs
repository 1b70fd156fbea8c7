//! What serves changes: a version takes all requests, or is taken back.

use jiff::Timestamp;

use super::{
    HistoryEntry, Outcome, Rejected, Release, Rollback, Served, Side,
    plan::{Cause, Draft},
};

impl Draft<'_> {
    pub(super) fn take_back_canary(&mut self, cause: &Cause<'_>) {
        let (Some(canary), Some(stable)) = (self.state.canary.take(), self.state.stable_version().map(str::to_owned))
        else {
            return;
        };
        self.record_rollback(&canary.release, stable, cause);
        self.fill_stable();
    }

    /// All requests go to `release`, from this decision on.
    pub(super) fn replace_stable(&mut self, release: Release, cause: &Cause<'_>, rollback: bool) {
        self.state.canary = None;
        let old = self.state.stable.replace(Side { release: release.clone(), weight: 100 }).map(|side| side.release);
        let from = old.as_ref().map(|old| old.version.clone());
        match old {
            Some(old) if rollback => {
                self.record_rollback(&old, release.version.clone(), cause);
                self.state.previous = self.state.earlier_release(&[&release.version, &old.version]);
            }
            old => {
                self.state.previous = old;
                let message = format!("{} takes all requests: {}", release.version, cause.why);
                self.notice("Deployed", &release.version, cause.by, message);
            }
        }
        self.remember(release, Outcome::Deployed, [from, None], cause);
    }

    fn record_rollback(&mut self, from: &Release, to: String, cause: &Cause<'_>) {
        let now = self.input.now;
        // Only what spec.version asks for would be tried again by itself.
        if from.version == self.target() {
            let (version, digest) = (from.version.clone(), from.identity().to_owned());
            self.state.rejected = Some(Rejected { version, digest, reason: cause.why.into() });
            // A retry that was there before there was anything to retry must not defeat the rollback.
            if self.input.commands.retry.as_deref() == Some(&self.state.rollout_id) {
                self.state.handled.retry.clone_from(&self.input.commands.retry);
            }
        }
        let message = format!("from {} to {to}: {}", from.version, cause.why);
        self.notice("RolledBack", &from.version, cause.by, message);
        self.remember(from.clone(), Outcome::RolledBack, [None, Some(to.clone())], cause);
        if self.state.previous.as_ref().is_some_and(|previous| previous.version == from.version) {
            self.state.previous = self.state.earlier_release(&[&to, &from.version]);
        }
        self.state.last_rollback = Some(Rollback {
            from: from.version.clone(),
            to,
            reason: cause.why.into(),
            revision: 0, // set in `finish`, when the new revision is known
            decided_at: now,
            effective_at: None,
        });
    }

    fn remember(&mut self, release: Release, outcome: Outcome, [from, to]: [Option<String>; 2], cause: &Cause<'_>) {
        let (reason, by, at) = (cause.why.to_owned(), cause.by.to_owned(), self.input.now);
        self.state.remember(HistoryEntry { release, outcome, reason, at, from, to, by });
    }

    /// Stable has what the canary doesn't have.
    pub(super) fn fill_stable(&mut self) {
        let taken = self.state.canary.as_ref().map_or(0, |canary| canary.weight);
        if let Some(stable) = &mut self.state.stable {
            stable.weight = 100 - taken;
        }
    }
}

/// When the last gateway took the rollback up; `None` while one hasn't, or none is known.
pub(super) fn effective_at(rollback: &Rollback, served: Option<&[Served]>) -> Option<Timestamp> {
    let served = served?;
    if served.iter().any(|gateway| gateway.revision < rollback.revision) {
        return None;
    }
    served.iter().map(|gateway| gateway.since.max(rollback.decided_at)).max()
}
