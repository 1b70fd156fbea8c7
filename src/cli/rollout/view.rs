//! What people see of a rollout: pure.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    api::{ANNOTATION_ABORT, ANNOTATION_RETRY, ANNOTATION_UNDO, HasConditions, ModelDeployment},
    domain::{
        conditions::READY,
        duration::HumanDuration,
        pull::elapsed,
        rollout::{Canary, HistoryEntry, Outcome, Phase, Release, State},
    },
};

/// How many signs stand for all requests.
const BAR: usize = 40;

/// All that is known of a rollout, line by line.
pub fn describe(deployment: &ModelDeployment, now: Timestamp) -> String {
    let Some(status) = &deployment.status else { return "not seen by the controller yet\n".into() };
    let state = &status.rollout;
    let rollout = if state.rollout_id.is_empty() { "none yet" } else { &state.rollout_id };
    let mut lines = vec![format!("{} ({:?}), rollout: {rollout}", deployment.name_any(), status.phase)];
    let release = |release: &Release| format!("{}  {}", release.version, release.tag);
    if let Some(stable) = &state.stable {
        lines.push(format!("  stable    {:>3} %  {}", stable.weight, release(&stable.release)));
    }
    if let Some(canary) = &state.canary {
        let (of, step) = (release(&canary.release), step(deployment, state, canary, now));
        lines.push(format!("  canary    {:>3} %  {of}  {step}", canary.weight));
    }
    if let Some(previous) = &state.previous {
        lines.push(format!("  previous         {}", release(previous)));
    }
    if let Some(rejected) = &state.rejected {
        lines.push(format!("  rejected         {}  {}", rejected.version, rejected.reason));
    }
    if let Some(rollback) = &state.last_rollback {
        let effect = rollback.effective_at.map_or("not everywhere yet".into(), |at| format!("effective {at}"));
        let (from, to, decided) = (&rollback.from, &rollback.to, rollback.decided_at);
        lines.push(format!("  last rollback    {from} -> {to}, decided {decided}, {effect}"));
    }
    lines.extend(analysis(state));
    lines.extend(conditions(deployment));
    lines.join("\n") + "\n"
}

/// The same for people who watch, with the shares as bars.
pub fn picture(deployment: &ModelDeployment, now: Timestamp) -> String {
    let state = deployment.status.as_ref().map(|status| &status.rollout);
    let sides = state.map(|state| {
        let stable = state.stable.as_ref().map(|side| (&side.release, side.weight));
        let canary = state.canary.as_ref().map(|canary| (&canary.release, canary.weight));
        [stable, canary]
    });
    let bars = sides.into_iter().flatten().flatten().map(|(release, weight)| {
        let filled = BAR * usize::from(weight) / 100;
        format!("  {}{} {weight:>3} %  {}\n", "█".repeat(filled), "░".repeat(BAR - filled), release.version)
    });
    format!("{}\n{}", bars.collect::<String>(), describe(deployment, now))
}

/// One line for a log.
pub fn summary(deployment: &ModelDeployment) -> String {
    let name = deployment.name_any();
    let Some(status) = &deployment.status else { return format!("{name}: not seen by the controller yet") };
    let ready = deployment.conditions().iter().find(|condition| condition.type_ == READY);
    let said = ready.map_or(String::new(), |ready| format!(": {}", ready.message));
    format!("{name}: {:?}{said}", status.phase)
}

/// Whether a rollout is over: true where the version that the spec asks for serves, false where it was taken back or
/// requests fail. A spec or a command that the controller has not answered yet is not over.
pub fn ended(deployment: &ModelDeployment) -> Option<bool> {
    let status = deployment.status.as_ref()?;
    let handled = &status.rollout.handled;
    let commands =
        [(ANNOTATION_UNDO, &handled.undo), (ANNOTATION_ABORT, &handled.abort), (ANNOTATION_RETRY, &handled.retry)];
    let is_open = |(name, handled): &(&str, &Option<String>)| {
        let given = deployment.annotations().get(*name);
        let rollout = given.map(|given| given.split_once('/').map_or(given.as_str(), |(rollout, _)| rollout));
        rollout == Some(&*status.rollout.rollout_id) && given != handled.as_ref()
    };
    if status.observed_generation != deployment.metadata.generation || commands.iter().any(is_open) {
        return None;
    }
    match status.phase {
        Phase::Healthy => Some(true),
        Phase::Degraded => Some(false),
        _ => None,
    }
}

/// The past as a table with a head.
pub fn history(entries: &[HistoryEntry]) -> Vec<Vec<String>> {
    let head = ["WHEN", "WHAT", "FROM", "TO", "WHY", "WHO"].map(str::to_owned).to_vec();
    let rows = entries.iter().map(|entry| {
        let or_none = |text: Option<&String>| text.filter(|text| !text.is_empty()).map_or("-".into(), String::clone);
        let own = Some(&entry.release.version);
        let (what, from, to) = match entry.outcome {
            Outcome::Deployed => ("Deployed", entry.from.as_ref(), own),
            Outcome::RolledBack => ("RolledBack", own, entry.to.as_ref()),
        };
        let when = entry.at.strftime("%Y-%m-%d %H:%M:%S").to_string();
        vec![when, what.into(), or_none(from), or_none(to), entry.reason.clone(), or_none(Some(&entry.by))]
    });
    [head].into_iter().chain(rows).collect()
}

/// Where a canary stands among the steps, and what its step waits for.
fn step(deployment: &ModelDeployment, state: &State, canary: &Canary, now: Timestamp) -> String {
    let strategy = deployment.spec.strategy.steps();
    let steps = strategy.as_ref().map_or(&[][..], |strategy| &strategy.steps);
    let reached = steps.iter().rfind(|step| step.weight <= canary.weight).map(|step| step.duration.0);
    let copies = strategy.as_ref().filter(|_| canary.shadow.is_some()).and_then(|strategy| strategy.copies());
    let held = elapsed(canary.step_started_at, now);
    let left = copies.map(|copies| copies.duration).or(reached).unwrap_or_default().saturating_sub(held);
    let waits = if state.paused {
        "held".to_owned()
    } else if strategy.as_ref().is_some_and(|strategy| strategy.require_approval) {
        "left by drover rollout promote".to_owned()
    } else if left > Duration::ZERO {
        format!("left in {} at the earliest", HumanDuration(Duration::from_secs(left.as_secs_f64().ceil() as u64)))
    } else {
        "its time is over".to_owned()
    };
    if let Some(share) = canary.shadow {
        return format!("copies of {share} % of requests, {waits}");
    }
    format!("step {} of {}, {waits}", canary.step + 1, steps.len().max(canary.step as usize + 1))
}

fn analysis(state: &State) -> Vec<String> {
    let Some(analysis) = &state.analysis else { return Vec::new() };
    let last = analysis.measurements.first();
    let verdict = last.map_or(String::new(), |last| format!(", last {:?} at {}", last.verdict, last.at));
    let head = format!("  analysis         {} requests measured in this step{verdict}", analysis.requests);
    let metrics = analysis.metrics.iter().map(|known| format!("    {}: {}", known.criterion, known.message));
    let queries = analysis.queries.iter().map(|known| format!("    {}: {}", known.name, known.message));
    [head].into_iter().chain(metrics).chain(queries).collect()
}

fn conditions(deployment: &ModelDeployment) -> Vec<String> {
    let mut said = "";
    let lines = deployment.conditions().iter().map(|condition| {
        let message = if condition.message == said { "" } else { condition.message.as_str() };
        said = &condition.message;
        format!("  {:<12} {:?}: {message}", condition.type_, condition.status).trim_end_matches(": ").to_owned()
    });
    lines.collect()
}
