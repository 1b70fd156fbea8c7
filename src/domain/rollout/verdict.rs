//! What people are shown of a rollout: phase and conditions, computed from the spec and the state alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Canary, Input, Side, State, holders};
use crate::domain::{
    analysis::Analysis,
    conditions::{Finding, READY, RECONCILING, STALLED},
};

const SHORT_DIGEST: usize = "sha256:".len() + 12;

/// Where a deployment stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The version is not registered, or its digest isn't known yet.
    #[default]
    Pending,
    /// Too few nodes hold the version.
    Pulling,
    /// A canary has part of the requests.
    Progressing,
    /// Held by `spec.paused` or `drover rollout pause`.
    Paused,
    /// The version asked for has all requests.
    Healthy,
    /// A rollback is decided and not yet served by every gateway.
    RollingBack,
    /// Requests are answered, but not by the version asked for, or not at all.
    Degraded,
}

/// Phase and conditions.
pub(super) fn judge(input: &Input<'_>, state: &State) -> (Phase, Vec<Finding>) {
    let phase = phase(input, state);
    let (reason, message) = explain(input, state, phase);
    let serving = is_serving(input, state);
    // A canary on schedule is Ready, or a day-long step would time out whoever waits for the object.
    let ready = serving && !matches!(phase, Phase::Degraded | Phase::RollingBack) && !is_starting(phase, state);
    let mut findings = vec![
        Finding::new(READY, ready, reason, message.clone()),
        Finding::new("Progressing", phase == Phase::Progressing, reason, message.clone()),
    ];
    if is_starting(phase, state) || phase == Phase::RollingBack || (phase == Phase::Pulling && !ready) {
        findings.push(Finding::new(RECONCILING, true, reason, message.clone()));
    }
    if phase == Phase::Paused {
        findings.push(Finding::new("Paused", true, reason, message.clone()));
    }
    if phase == Phase::Degraded && state.rejected.is_some() {
        findings.push(Finding::new(STALLED, true, reason, message));
    }
    (phase, findings)
}

fn is_starting(phase: Phase, state: &State) -> bool {
    matches!(phase, Phase::Pending | Phase::Pulling) && state.stable.is_none()
}

fn is_serving(input: &Input<'_>, state: &State) -> bool {
    state.stable.as_ref().is_some_and(|stable| holders(input.versions, &stable.release) > 0)
}

fn phase(input: &Input<'_>, state: &State) -> Phase {
    let target = &input.spec.version;
    let pending_rollback = state.last_rollback.as_ref().is_some_and(|r| r.effective_at.is_none());
    if pending_rollback && input.served.is_none_or(|gateways| !gateways.is_empty()) {
        return Phase::RollingBack;
    }
    match &state.stable {
        Some(stable) if holders(input.versions, &stable.release) == 0 => Phase::Degraded,
        Some(_) if state.rejected.is_some() => Phase::Degraded,
        Some(stable) if stable.release.version == *target => Phase::Healthy,
        Some(_) if input.spec.paused || state.paused => Phase::Paused,
        Some(_) if state.canary.is_some() => Phase::Progressing,
        _ if input.versions.get(target).is_some_and(|a| a.release.is_some()) => Phase::Pulling,
        _ => Phase::Pending,
    }
}

fn explain(input: &Input<'_>, state: &State, phase: Phase) -> (&'static str, String) {
    let target = &input.spec.version;
    let stable = state.stable_version().unwrap_or("nothing");
    let waiting = || match input.versions.get(target) {
        Some(availability) if !availability.message.is_empty() => availability.message.clone(),
        Some(availability) => {
            format!("{} of {} nodes hold {target}", availability.nodes, input.spec.min_nodes.max(1))
        }
        None => format!("no ModelVersion {target} of this model: create one"),
    };
    match phase {
        Phase::Pending => ("VersionNotResolved", waiting()),
        Phase::Pulling => ("WaitingForNodes", format!("{}; {stable} serves", waiting())),
        Phase::Healthy => ("Serving", format!("{stable} has all requests")),
        Phase::Paused if input.spec.paused => ("Paused", format!("held by spec.paused; {}", shares(state))),
        Phase::Paused => {
            ("Paused", format!("held by drover rollout pause, until drover rollout resume; {}", shares(state)))
        }
        Phase::RollingBack => ("RollingBack", "the gateways take up the rollback".into()),
        Phase::Progressing if is_spent(input, state) => ("ShadowBudgetSpent", progress(input, state)),
        Phase::Progressing if is_shadow(state) => ("Shadow", progress(input, state)),
        Phase::Progressing => ("CanaryStep", progress(input, state)),
        Phase::Degraded if !is_serving(input, state) => ("NoReadyNodes", nowhere(input, state)),
        Phase::Degraded => (
            "RolledBack",
            state.rejected.as_ref().map_or_else(String::new, |rejected| {
                format!(
                    "{} ({}) was taken back: {}; {stable} serves until spec.version changes or `drover rollout retry`",
                    rejected.version,
                    short(&rejected.digest),
                    rejected.reason
                )
            }),
        ),
    }
}

/// As much of a digest as people compare; the whole one is in the status.
fn short(digest: &str) -> &str {
    let end = if digest.starts_with("sha256:") { SHORT_DIGEST } else { digest.len() };
    digest.get(..end).unwrap_or(digest)
}

fn nowhere(input: &Input<'_>, state: &State) -> String {
    let Some(Side { release, .. }) = &state.stable else { return String::new() };
    let registered = input.versions.get(&release.version).and_then(|a| a.release.as_ref());
    match registered {
        Some(other) if other.identity() != release.identity() => format!(
            "{} went live as {} and was registered anew as {}: register the new one under another version",
            release.version,
            short(release.identity()),
            short(other.identity())
        ),
        None => format!(
            "there is no ModelVersion {} any more, so requests fail: register it again, with {}",
            release.version,
            release.identity()
        ),
        _ => match input.versions.get(&release.version).filter(|found| !found.message.is_empty()) {
            Some(found) => format!("{}: requests for {} fail", found.message, release.version),
            None => {
                format!("no ready node holds {} ({}): requests for it fail", release.version, short(release.identity()))
            }
        },
    }
}

/// Whether the canary gets copies of requests only.
fn is_shadow(state: &State) -> bool {
    state.canary.as_ref().is_some_and(|canary| canary.shadow.is_some())
}

/// Whether the step lacks requests, and some that were to come won't, because copies cost as much as they may.
fn is_spent(input: &Input<'_>, state: &State) -> bool {
    let (Some(settings), Some(analysis)) = (&input.spec.analysis, &state.analysis) else { return false };
    is_shadow(state) && analysis.copies.is_some() && analysis.lacks(settings) > 0
}

fn shares(state: &State) -> String {
    match (&state.stable, &state.canary) {
        (Some(stable), Some(Canary { release, shadow: Some(share), .. })) => format!(
            "{} has all requests, {} gets copies of {share} %, and its answers are thrown away",
            stable.release.version, release.version
        ),
        (Some(stable), Some(canary)) => format!(
            "{} has {} %, {} has {} %",
            stable.release.version, stable.weight, canary.release.version, canary.weight
        ),
        (Some(stable), None) => format!("{} has all requests", stable.release.version),
        _ => "nothing serves".into(),
    }
}

fn progress(input: &Input<'_>, state: &State) -> String {
    let Some(canary) = &state.canary else { return shares(state) };
    let short = holders(input.versions, &canary.release) < input.spec.min_nodes.max(1);
    let hold = if short {
        format!("; the step is held: too few ready nodes hold {}", canary.release.version)
    } else if input.spec.require_approval {
        format!("; the step is left by drover.dev/promote: {}/{}", state.rollout_id, canary.step_name())
    } else {
        String::new()
    };
    format!("{}{hold}{}", shares(state), evidence(input, state))
}

/// What a step that is compared still waits for.
fn evidence(input: &Input<'_>, state: &State) -> String {
    let (Some(settings), Some(analysis)) = (&input.spec.analysis, &state.analysis) else { return String::new() };
    let waits = match analysis.lacks(settings) {
        0 if analysis.is_enough(settings) => return String::new(),
        0 => format!(
            "; {} of {} comparisons in a row that have nothing against {}",
            analysis.successes,
            settings.consecutive_successes,
            state.canary_version().unwrap_or_default()
        ),
        lacks => format!("; {lacks} of {} requests to the canary are still to be measured", settings.min_requests),
    };
    let unheard = match analysis.unheard() {
        0 => String::new(),
        1 => "; what one gateway counted is missing: it doesn't answer the controller".into(),
        unheard => format!("; what {unheard} gateways counted is missing: they don't answer the controller"),
    };
    let spent = if is_spent(input, state) { spent(input, analysis) } else { String::new() };
    format!("{waits}{unheard}{spent}")
}

/// What copies cost, and what to do.
fn spent(input: &Input<'_>, analysis: &Analysis) -> String {
    let (Some(copies), Some(shadow)) = (&analysis.copies, &input.spec.shadow) else { return String::new() };
    format!(
        "; copies cost {:.2} US dollars, and {} of {} gateways sent as many as {:.2} dollars (shadowBudget) allow: raise \
         shadowBudget, lower minRequests, or begin the first step by drover rollout promote",
        copies.cost_micros as f64 / 1e6,
        copies.spent_out,
        copies.gateways,
        shadow.budget as f64 / 1e6
    )
}
