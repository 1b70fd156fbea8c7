//! The rules, in order.

use std::{cmp::Ordering, time::Duration};

use jiff::Timestamp;

use super::{
    Canary, Commands, HistoryEntry, Outcome, Phase, Rejected, Release, Rollback, Served, Side, Spec, State, Versions,
    holders, next_rollout_id, verdict,
};
use crate::domain::{
    analysis::{Analysis, Batch},
    conditions::Finding,
    pull::elapsed,
    version,
};

/// How long a canary may be without a node: longer than a node takes to start again.
const WITHOUT_NODE: Duration = Duration::from_secs(30);

/// Everything a decision rests on.
pub struct Input<'a> {
    /// What the user asks for.
    pub spec: &'a Spec,
    /// What is remembered.
    pub state: &'a State,
    /// Which versions can serve.
    pub versions: &'a Versions,
    /// Commands as they stand on the object.
    pub commands: &'a Commands,
    /// What each gateway serves; `None` when one of them could not be asked.
    pub served: Option<&'a [Served]>,
    /// What the gateways counted since the last batch, if somebody looked.
    pub batch: Option<&'a Batch>,
    /// A gateway stopped sending requests to the canary, which failed outright.
    pub braked: bool,
    /// The time of the decision.
    pub now: Timestamp,
}

/// Something that happened, worth an event on the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// A CamelCase word for programs.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
    /// Whether somebody should look.
    pub warning: bool,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The state to remember; the gateways follow it.
    pub state: State,
    /// What people see.
    pub phase: Phase,
    /// The conditions.
    pub findings: Vec<Finding>,
    /// When to decide again if nothing happens before.
    pub wake_after: Option<Duration>,
    /// What happened.
    pub notices: Vec<Notice>,
}

/// Decides what happens next. Deciding again on the result without any change changes nothing, but for two cases: a
/// step without a duration is left by the next decision, and after an undo of what `spec.version` no longer asks for
/// the next decision turns to what it does ask for.
pub fn plan(input: &Input<'_>) -> Decision {
    let mut draft = Draft { input, state: input.state.clone(), notices: Vec::new(), wake_after: None };
    draft.apply_rules();
    draft.finish()
}

#[derive(PartialEq, Eq)]
enum Next {
    /// The next rule may still have something to say.
    Continue,
    /// The decision is taken.
    Done,
}

struct Draft<'a> {
    input: &'a Input<'a>,
    state: State,
    notices: Vec<Notice>,
    wake_after: Option<Duration>,
}

impl Draft<'_> {
    /// The first rule that decides ends the search.
    fn apply_rules(&mut self) {
        let rules: [fn(&mut Self) -> Next; 9] = [
            Self::obey_undo,
            Self::settle_on_stable,
            Self::obey_retry,
            Self::refuse_rejected,
            Self::drop_outdated_canary,
            Self::mind_placement,
            Self::weigh_evidence,
            Self::advance_canary,
            Self::begin,
        ];
        for rule in rules {
            if rule(self) == Next::Done {
                return;
            }
        }
    }

    fn target(&self) -> &str {
        &self.input.spec.version
    }

    fn notice(&mut self, reason: &'static str, warning: bool, message: String) {
        self.notices.push(Notice { reason, message, warning });
    }

    /// `drover rollout undo`: the canary goes, or else the version that is live gives way to the one before it.
    fn obey_undo(&mut self) -> Next {
        let undo = &self.input.commands.undo;
        let fresh = undo.is_some() && *undo != self.state.handled.undo;
        if !fresh || undo.as_deref() != Some(&self.state.rollout_id) {
            return Next::Continue;
        }
        let reason = "undone by drover rollout undo";
        if self.state.canary.is_some() {
            self.state.handled.undo.clone_from(undo);
            self.take_back_canary(reason);
            return Next::Done;
        }
        let Some(previous) = self.state.previous.clone() else {
            self.state.handled.undo.clone_from(undo);
            self.notice("NothingToUndo", true, "there is no earlier version to go back to".into());
            return Next::Continue;
        };
        if holders(self.input.versions, &previous) == 0 {
            // Flipping now would be an outage: the command stays open until a node holds the version.
            return Next::Continue;
        }
        self.state.handled.undo.clone_from(undo);
        self.replace_stable(previous, reason, true);
        Next::Done
    }

    /// The spec asks for what serves already: a canary, if any, was called off.
    fn settle_on_stable(&mut self) -> Next {
        if self.state.stable_version() != Some(self.target()) {
            return Next::Continue;
        }
        if self.state.canary.is_some() {
            let reason = format!("spec.version was set back to {}", self.target());
            self.take_back_canary(&reason);
        }
        self.state.rejected = None;
        Next::Done
    }

    /// `drover rollout retry`: what was rejected may be tried again.
    fn obey_retry(&mut self) -> Next {
        let retry = &self.input.commands.retry;
        if retry.is_some() && *retry != self.state.handled.retry && retry.as_deref() == Some(&self.state.rollout_id) {
            self.state.handled.retry.clone_from(retry);
            if let Some(rejected) = self.state.rejected.take() {
                self.notice("Retrying", false, format!("{} is tried again on request", rejected.version));
            }
        }
        Next::Continue
    }

    /// What was taken back is not tried again until somebody says so; another version is.
    fn refuse_rejected(&mut self) -> Next {
        match &self.state.rejected {
            Some(rejected) if rejected.version == self.target() => Next::Done,
            _ => {
                self.state.rejected = None;
                Next::Continue
            }
        }
    }

    /// The spec asks for a third version while another one is on trial.
    fn drop_outdated_canary(&mut self) -> Next {
        let outdated = self.state.canary_version().filter(|version| *version != self.target()).map(str::to_owned);
        if let Some(outdated) = outdated {
            self.state.canary = None;
            self.fill_stable();
            let message = format!("{outdated} gives way to {}, which spec.version asks for now", self.target());
            self.notice("Superseded", false, message);
        }
        Next::Continue
    }

    /// A canary that no node holds any more goes, unless one is back soon. Where no node holds stable either, the version
    /// is not to blame.
    fn mind_placement(&mut self) -> Next {
        let (Some(stable), Some(canary)) = (&self.state.stable, &mut self.state.canary) else { return Next::Continue };
        let versions = self.input.versions;
        if holders(versions, &canary.release) > 0 || holders(versions, &stable.release) == 0 {
            canary.lost_since = None;
            return Next::Continue;
        }
        let since = *canary.lost_since.get_or_insert(self.input.now);
        let left = WITHOUT_NODE.saturating_sub(elapsed(since, self.input.now));
        if left.is_zero() {
            self.take_back_canary("no ready node holds it any more");
            return Next::Done;
        }
        self.wake_after = Some(left);
        Next::Continue
    }

    /// A canary that is worse than it may be goes, whether or not somebody has paused it or must promote it.
    fn weigh_evidence(&mut self) -> Next {
        let Some(canary) = &self.state.canary else { return Next::Continue };
        if self.input.braked {
            self.take_back_canary(
                "attempt after attempt failed outright, and a gateway stopped sending requests to it",
            );
            return Next::Done;
        }
        let Some(settings) = &self.input.spec.analysis else { return Next::Continue };
        let known = self.state.analysis.take().filter(|known| known.rollout_id == self.state.rollout_id);
        let mut analysis = known.unwrap_or_else(|| Analysis::new(&self.state.rollout_id, canary.step));
        let failure = self.input.batch.and_then(|batch| analysis.add(settings, batch));
        self.state.analysis = Some(analysis);
        let Some(failure) = failure else { return Next::Continue };
        self.take_back_canary(&failure);
        Next::Done
    }

    /// The canary's step is held, left for the next one, or was the last one.
    fn advance_canary(&mut self) -> Next {
        let Some(canary) = &self.state.canary else { return Next::Continue };
        let spec = self.input.spec;
        let enough_nodes = holders(self.input.versions, &canary.release) >= spec.min_nodes.max(1);
        if spec.paused || !enough_nodes {
            return Next::Done;
        }
        let promotion = format!("{}/{}", self.state.rollout_id, canary.step);
        let promoted = self.input.commands.promote.as_deref() == Some(&promotion);
        let held = elapsed(canary.step_started_at, self.input.now);
        // By weight, not by index: the steps may have been edited meanwhile.
        let reached = spec.steps.iter().rfind(|step| step.weight <= canary.weight);
        let duration = reached.map_or(Duration::ZERO, |step| step.duration);
        if !promoted && held < duration {
            self.wake_after = Some(duration - held);
            return Next::Done;
        }
        if !promoted && (spec.require_approval || self.lacks_evidence()) {
            return Next::Done;
        }
        if promoted {
            self.state.handled.promote = Some(promotion);
        }
        self.leave_step();
        Next::Done
    }

    fn lacks_evidence(&self) -> bool {
        let lacks = |settings| self.state.analysis.as_ref().is_none_or(|analysis| analysis.lacks(settings) > 0);
        self.input.spec.analysis.as_ref().is_some_and(lacks)
    }

    /// From the present step to the first one with more weight, or to all requests.
    fn leave_step(&mut self) {
        let Some(canary) = &mut self.state.canary else { return };
        let higher = self.input.spec.steps.iter().enumerate().find(|(_, step)| step.weight > canary.weight);
        let Some((index, step)) = higher else {
            let release = canary.release.clone();
            self.replace_stable(release, "passed every step", false);
            return;
        };
        if index as u32 <= canary.step {
            // The steps were edited. ROLLOUT/STEP must not name two steps, or one promotion would count twice.
            self.state.rollout_id = next_rollout_id(&self.input.spec.id_prefix, &self.state.rollout_id);
        }
        canary.weight = step.weight;
        canary.step = index as u32;
        canary.step_started_at = self.input.now;
        if let Some(analysis) = &mut self.state.analysis {
            analysis.begin_step(&self.state.rollout_id, canary.step);
        }
        let message = format!("{} takes {} % of requests", canary.release.version, step.weight);
        self.wake_after = Some(step.duration);
        self.fill_stable();
        self.notice("StepStarted", false, message);
    }

    /// A new version, once it can serve.
    fn begin(&mut self) -> Next {
        let spec = self.input.spec;
        let ready = self.input.versions.get(self.target()).filter(|a| a.nodes >= spec.min_nodes.max(1));
        let Some(release) = ready.and_then(|a| a.release.clone()) else { return Next::Done };
        let is_older = self
            .state
            .stable_version()
            .is_some_and(|stable| version::compare(self.target(), stable) == Some(Ordering::Less));
        let is_this_live =
            |entry: &HistoryEntry| entry.release.version == release.version && entry.outcome == Outcome::Deployed;
        // The history is short: the version before may have dropped out of it.
        let is_previous = self.state.previous.as_ref().is_some_and(|previous| previous.version == release.version);
        let was_live = is_previous || self.state.history.iter().any(is_this_live);
        if self.state.stable.is_some() && is_older && was_live {
            // A command that was meant for what gives way now must not hit what takes its place.
            self.state.rollout_id = next_rollout_id(&spec.id_prefix, &self.state.rollout_id);
            let reason = format!("spec.version was set back to {}", release.version);
            self.replace_stable(release, &reason, true);
            self.state.rejected = None;
            return Next::Done;
        }
        if spec.paused && self.state.stable.is_some() {
            return Next::Done;
        }
        self.state.rollout_id = next_rollout_id(&spec.id_prefix, &self.state.rollout_id);
        let Some(step) = spec.steps.first().filter(|_| self.state.stable.is_some()) else {
            let reason = if self.state.stable.is_some() { "switched at once" } else { "first version" };
            self.replace_stable(release, reason, false);
            return Next::Done;
        };
        let message = format!("{} takes {} % of requests", release.version, step.weight);
        self.state.canary =
            Some(Canary { release, weight: step.weight, step: 0, step_started_at: self.input.now, lost_since: None });
        self.wake_after = Some(step.duration);
        self.state.analysis = spec.analysis.as_ref().map(|_| Analysis::new(&self.state.rollout_id, 0));
        self.fill_stable();
        self.notice("RolloutStarted", false, message);
        Next::Done
    }

    fn take_back_canary(&mut self, reason: &str) {
        let (Some(canary), Some(stable)) = (self.state.canary.take(), self.state.stable_version().map(str::to_owned))
        else {
            return;
        };
        self.record_rollback(&canary.release, stable, reason);
        self.fill_stable();
    }

    /// All requests go to `release`, from this decision on.
    fn replace_stable(&mut self, release: Release, reason: &str, rollback: bool) {
        let now = self.input.now;
        self.state.canary = None;
        let old = self.state.stable.replace(Side { release: release.clone(), weight: 100 });
        match old {
            Some(old) if rollback => {
                self.record_rollback(&old.release, release.version.clone(), reason);
                self.state.previous = self.state.earlier_release(&[&release.version, &old.release.version]);
            }
            old => {
                self.state.previous = old.map(|side| side.release);
                let message = format!("{} takes all requests: {reason}", release.version);
                self.notice("Deployed", false, message);
            }
        }
        self.state.remember(release, Outcome::Deployed, reason, now);
    }

    fn record_rollback(&mut self, from: &Release, to: String, reason: &str) {
        let now = self.input.now;
        // Only what spec.version asks for would be tried again by itself.
        if from.version == self.target() {
            let (version, digest) = (from.version.clone(), from.identity().to_owned());
            self.state.rejected = Some(Rejected { version, digest, reason: reason.into() });
            // A retry that was there before there was anything to retry must not defeat the rollback.
            if self.input.commands.retry.as_deref() == Some(&self.state.rollout_id) {
                self.state.handled.retry.clone_from(&self.input.commands.retry);
            }
        }
        self.notice("RolledBack", true, format!("from {} to {to}: {reason}", from.version));
        self.state.remember(from.clone(), Outcome::RolledBack, reason, now);
        if self.state.previous.as_ref().is_some_and(|previous| previous.version == from.version) {
            self.state.previous = self.state.earlier_release(&[&to, &from.version]);
        }
        self.state.last_rollback = Some(Rollback {
            from: from.version.clone(),
            to,
            reason: reason.into(),
            revision: 0, // set in `finish`, when the new revision is known
            decided_at: now,
            effective_at: None,
        });
    }

    /// Stable has what the canary doesn't have.
    fn fill_stable(&mut self) {
        let taken = self.state.canary.as_ref().map_or(0, |canary| canary.weight);
        if let Some(stable) = &mut self.state.stable {
            stable.weight = 100 - taken;
        }
    }

    fn finish(mut self) -> Decision {
        let before = self.input.state;
        if before.stable != self.state.stable || sides(before) != sides(&self.state) {
            self.state.revision += 1;
        }
        let revision = self.state.revision;
        if let Some(rollback) = &mut self.state.last_rollback {
            if rollback.revision == 0 {
                rollback.revision = revision;
            }
            if rollback.effective_at.is_none() {
                rollback.effective_at = effective_at(rollback, self.input.served);
            }
        }
        let (phase, findings) = verdict::judge(self.input, &self.state);
        Decision { state: self.state, phase, findings, wake_after: self.wake_after, notices: self.notices }
    }
}

/// What gateways look at of the canary: not when its step began.
fn sides(state: &State) -> Option<(&Release, u8)> {
    state.canary.as_ref().map(|canary| (&canary.release, canary.weight))
}

/// When the last gateway took the rollback up; `None` while one hasn't, or none is known.
fn effective_at(rollback: &Rollback, served: Option<&[Served]>) -> Option<Timestamp> {
    let served = served?;
    if served.iter().any(|gateway| gateway.revision < rollback.revision) {
        return None;
    }
    served.iter().map(|gateway| gateway.since.max(rollback.decided_at)).max()
}
