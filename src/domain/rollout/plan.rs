//! The rules, in order.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Authors, Commands, NOBODY, Phase, Release, Served, Spec, State, Versions, audit::name, switch::effective_at,
    verdict,
};
use crate::domain::{
    analysis::{Batch, Copies},
    conditions::Finding,
};

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
    /// What copies of requests cost, if every gateway said so.
    pub copies: Option<Copies>,
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
    pub(super) wake_after: Option<Duration>,
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

    pub(super) fn target(&self) -> &str {
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
