//! What is worth an event between two statuses of a pull: pure.

use crate::{
    api::{ModelPull, ModelPullStatus, UpdatePolicy},
    domain::{
        conditions::{Condition, ConditionStatus, READY, STALLED},
        pull::{Phase, elapsed},
    },
};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// A CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Whether somebody should look.
    pub warning: bool,
}

/// The events that follow from writing `next` over the object's status.
pub fn transitions(pull: &ModelPull, next: &ModelPullStatus) -> Vec<Told> {
    let Some(before) = &pull.status else { return Vec::new() };
    let told = |reason: &str, message: String, warning| Told { reason: reason.into(), message, warning };
    let (earlier, now) = (find(&before.conditions, READY), find(&next.conditions, READY));
    let mut events = Vec::new();
    if let (Some(from), Some(to)) = (&before.resolved, &next.resolved) {
        let follows = pull.spec.update_policy == UpdatePolicy::Always && from.tag == to.tag;
        if follows && from.digest != to.digest {
            let message = format!("{} was {} and is {}", to.tag, from.digest, to.digest);
            events.push(told("TagMoved", message, false));
        }
    }
    let became_ready = next.phase == Phase::Ready && before.phase != Phase::Ready;
    if let (true, Some(earlier), Some(now), Some(resolved)) = (became_ready, earlier, now, &next.resolved) {
        let seconds = elapsed(earlier.last_transition_time, now.last_transition_time).as_secs();
        let message =
            format!("{} nodes have {} as {} after {seconds} s", next.ready_nodes, resolved.tag, resolved.digest);
        events.push(told("Pulled", message, false));
    }
    if next.phase == Phase::Suspended && before.phase != Phase::Suspended {
        events.push(told("Suspended", "held by spec.suspend".into(), false));
    }
    let stalled = find(&next.conditions, STALLED);
    let stalled_before = find(&before.conditions, STALLED).map(|condition| condition.reason.as_str());
    if let Some(stalled) = stalled.filter(|stalled| stalled_before != Some(&stalled.reason)) {
        let reason = if stalled.reason == "TimedOut" { "TimedOut" } else { "PullFailed" };
        events.push(told(reason, stalled.message.clone(), true));
    }
    events
}

fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_ && condition.status != ConditionStatus::Unknown)
}
