//! A canary on its way up: what its step waits for, and where it goes from there.

use std::time::Duration;

use super::{
    Canary, NOBODY, Spec,
    audit::name,
    holders, next_rollout_id,
    plan::{Cause, Draft, Next},
};
use crate::domain::{analysis::Analysis, pull::elapsed};

impl Draft<'_> {
    /// A canary that is worse than it may be goes, whether or not somebody has paused it or must promote it.
    pub(super) fn weigh_evidence(&mut self) -> Next {
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
        if let Some(copies) = self.input.copies.filter(|_| analysis.shadow) {
            // Worth a write only where it explains why no more requests are measured.
            analysis.copies = Some(copies).filter(|copies| copies.spent_out > 0);
        }
        self.state.analysis = Some(analysis);
        let Some(failure) = failure else { return Next::Continue };
        self.take_back_canary(&Cause { why: &failure, by: NOBODY });
        Next::Done
    }

    /// The canary's step is held, left for the next one, or was the last one.
    pub(super) fn advance_canary(&mut self) -> Next {
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
