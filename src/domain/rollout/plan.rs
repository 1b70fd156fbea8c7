//! The rules, in order.

use std::{cmp::Ordering, time::Duration};

use jiff::Timestamp;

use super::{
    Authors, Canary, Commands, HistoryEntry, NOBODY, Outcome, Phase, Rejected, Release, Rollback, Served, Shadow, Side,
    Spec, State, Versions, audit::name, holders, next_rollout_id, verdict,
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
    /// Who set them, and the spec.
    pub authors: &'a Authors,
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
    /// The version that it happened to.
    pub version: String,
    /// A sentence for people.
    pub message: String,
    /// Who asked for it.
    pub by: String,
}

impl Notice {
    /// Whether somebody should look.
    pub fn is_warning(&self) -> bool {
        matches!(self.reason, "RolledBack" | "NothingToUndo" | "NothingToAbort")
    }
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

impl Decision {
    /// Whether somebody asked for what is done now, and could be named.
    pub fn was_asked_for(&self) -> bool {
        self.notices.iter().any(|notice| notice.by != NOBODY)
    }

    /// Whether a version that serves beside or instead of another one gets more requests than `before`, without any
    /// being taken back.
    pub fn goes_up_from(&self, before: &State) -> bool {
        let rollback = |state: &State| state.last_rollback.as_ref().map(|rollback| rollback.revision);
        before.stable.is_some() && self.state.revision != before.revision && rollback(&self.state) == rollback(before)
    }
}

/// Decides what happens next. Deciding again on the result without any change changes nothing, but for two cases: a
/// step without a duration is left by the next decision, and after an undo of what `spec.version` no longer asks for
/// the next decision turns to what it does ask for.
pub fn plan(input: &Input<'_>) -> Decision {
    let mut draft = Draft { input, state: input.state.clone(), notices: Vec::new(), wake_after: None };
    draft.apply_rules();
    draft.finish()
}

/// Why something is done, and who asked for it.
pub(super) struct Cause<'a> {
    pub why: &'a str,
    pub by: &'a str,
}

#[derive(PartialEq, Eq)]
pub(super) enum Next {
    /// The next rule may still have something to say.
    Continue,
    /// The decision is taken.
    Done,
}

pub(super) struct Draft<'a> {
    pub(super) input: &'a Input<'a>,
    pub(super) state: State,
    notices: Vec<Notice>,
    wake_after: Option<Duration>,
}

impl Draft<'_> {
    /// The first rule that decides ends the search.
    fn apply_rules(&mut self) {
        let rules: [fn(&mut Self) -> Next; 10] = [
            Self::obey_undo,
            Self::obey_abort,
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

    pub(super) fn notice(&mut self, reason: &'static str, version: &str, by: &str, message: String) {
        self.notices.push(Notice { reason, version: version.into(), message, by: by.into() });
    }

    /// The spec asks for what serves already: a canary, if any, was called off.
    fn settle_on_stable(&mut self) -> Next {
        if self.state.stable_version() != Some(self.target()) {
            return Next::Continue;
        }
        if self.state.canary.is_some() {
            let reason = format!("spec.version was set back to {}", self.target());
            self.take_back_canary(&Cause { why: &reason, by: name(self.input.authors.version.as_ref()) });
        }
        self.state.rejected = None;
        Next::Done
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
            self.notice("Superseded", &outdated, name(self.input.authors.version.as_ref()), message);
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
            self.take_back_canary(&Cause { why: "no ready node holds it any more", by: NOBODY });
            return Next::Done;
        }
        self.wake_after = Some(left);
        Next::Continue
    }

    /// A canary that is worse than it may be goes, whether or not somebody has paused it or must promote it.
    fn weigh_evidence(&mut self) -> Next {
        let Some(canary) = &self.state.canary else { return Next::Continue };
        if self.input.braked {
            let why = "attempt after attempt failed outright, and a gateway stopped sending requests to it";
            self.take_back_canary(&Cause { why, by: NOBODY });
            return Next::Done;
        }
        let Some(settings) = &self.input.spec.analysis else { return Next::Continue };
        let known = self.state.analysis.take().filter(|known| known.rollout_id == self.state.rollout_id);
        let mut analysis =
            known.unwrap_or_else(|| Analysis::new(&self.state.rollout_id, canary.step, canary.shadow.is_some()));
        let failure = self.input.batch.and_then(|batch| analysis.add(settings, batch));
        self.state.analysis = Some(analysis);
        let Some(failure) = failure else { return Next::Continue };
        self.take_back_canary(&Cause { why: &failure, by: NOBODY });
        Next::Done
    }

    /// The canary's step is held, left for the next one, or was the last one.
    fn advance_canary(&mut self) -> Next {
        let (spec, is_held) = (self.input.spec, self.input.spec.paused || self.is_held());
        let Some(canary) = &mut self.state.canary else { return Next::Continue };
        let enough_nodes = holders(self.input.versions, &canary.release) >= spec.min_nodes.max(1);
        if is_held || !enough_nodes {
            return Next::Done;
        }
        if let (Some(share), Some(shadow)) = (&mut canary.shadow, spec.shadow) {
            *share = shadow.share;
        }
        let promotion = format!("{}/{}", self.state.rollout_id, canary.step_name());
        let promoted = self.input.commands.promote.as_deref() == Some(&promotion);
        let held = elapsed(canary.step_started_at, self.input.now);
        let duration = step_duration(spec, canary);
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
        self.leave_step(promoted.then(|| name(self.input.authors.promote.as_ref())));
        Next::Done
    }

    fn lacks_evidence(&self) -> bool {
        let spec = self.input.spec;
        if spec.shadow.is_none() && self.state.canary.as_ref().is_some_and(|canary| canary.shadow.is_some()) {
            // Nobody wants copies any more, so none will come.
            return false;
        }
        let lacks = |settings| self.state.analysis.as_ref().is_none_or(|analysis| !analysis.is_enough(settings));
        spec.analysis.as_ref().is_some_and(lacks)
    }

    /// From the present step to the first one with more weight, or to all requests; because of whoever promoted it.
    fn leave_step(&mut self, promoter: Option<&str>) {
        let by = promoter.unwrap_or(NOBODY);
        let Some(canary) = &mut self.state.canary else { return };
        let higher = self.input.spec.steps.iter().enumerate().find(|(_, step)| step.weight > canary.weight);
        let Some((index, step)) = higher else {
            let release = canary.release.clone();
            let why = if promoter.is_some() { "promoted past its last step" } else { "passed every step" };
            self.replace_stable(release, &Cause { why, by }, false);
            return;
        };
        if canary.shadow.take().is_none() && index as u32 <= canary.step {
            // The steps were edited. ROLLOUT/STEP must not name two steps, or one promotion would count twice.
            self.state.rollout_id = next_rollout_id(&self.input.spec.id_prefix, &self.state.rollout_id);
        }
        canary.weight = step.weight;
        canary.step = index as u32;
        canary.step_started_at = self.input.now;
        if let Some(analysis) = &mut self.state.analysis {
            analysis.begin_step(self.input.spec.analysis.as_ref(), &self.state.rollout_id, canary.step);
        }
        let version = canary.release.version.clone();
        let how = if promoter.is_some() { ": promoted" } else { "" };
        self.wake_after = Some(step.duration);
        self.fill_stable();
        self.notice("StepStarted", &version, by, format!("{version} takes {} % of requests{how}", step.weight));
    }

    /// A new version, once it can serve.
    fn begin(&mut self) -> Next {
        let (spec, by) = (self.input.spec, name(self.input.authors.version.as_ref()));
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
            self.replace_stable(release, &Cause { why: &reason, by }, true);
            self.state.rejected = None;
            return Next::Done;
        }
        if spec.paused && self.state.stable.is_some() {
            return Next::Done;
        }
        self.state.rollout_id = next_rollout_id(&spec.id_prefix, &self.state.rollout_id);
        let Some(step) = spec.steps.first().filter(|_| self.state.stable.is_some()) else {
            let why = if self.state.stable.is_some() { "switched at once" } else { "first version" };
            self.replace_stable(release, &Cause { why, by }, false);
            return Next::Done;
        };
        let version = release.version.clone();
        let (weight, duration, message) = match spec.shadow {
            Some(Shadow { share, duration }) => {
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
        Next::Done
    }

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
        let mut arrived = None;
        if let Some(rollback) = &mut self.state.last_rollback {
            if rollback.revision == 0 {
                rollback.revision = revision;
            }
            if rollback.effective_at.is_none() {
                rollback.effective_at = effective_at(rollback, self.input.served);
                arrived = rollback.effective_at.and(Some((rollback.from.clone(), rollback.to.clone())));
            }
        }
        if let Some((from, to)) = arrived {
            self.notice("RollbackEffective", &to, NOBODY, format!("every gateway serves {to} in the place of {from}"));
        }
        self.note_pause();
        self.state.note(&self.notices, self.input.now);
        let (phase, findings) = verdict::judge(self.input, &self.state);
        Decision { state: self.state, phase, findings, wake_after: self.wake_after, notices: self.notices }
    }
}

/// What gateways look at of the canary: not when its step began.
fn sides(state: &State) -> Option<(&Release, u8, Option<u8>)> {
    state.canary.as_ref().map(|canary| (&canary.release, canary.weight, canary.shadow))
}

/// How long the canary's step is held at least.
fn step_duration(spec: &Spec, canary: &Canary) -> Duration {
    if canary.shadow.is_some() {
        return spec.shadow.map_or(Duration::ZERO, |shadow| shadow.duration);
    }
    // By weight, not by index: the steps may have been edited meanwhile.
    let reached = spec.steps.iter().rfind(|step| step.weight <= canary.weight);
    reached.map_or(Duration::ZERO, |step| step.duration)
}

/// When the last gateway took the rollback up; `None` while one hasn't, or none is known.
fn effective_at(rollback: &Rollback, served: Option<&[Served]>) -> Option<Timestamp> {
    let served = served?;
    if served.iter().any(|gateway| gateway.revision < rollback.revision) {
        return None;
    }
    served.iter().map(|gateway| gateway.since.max(rollback.decided_at)).max()
}
