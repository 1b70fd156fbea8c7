//! What people ask of a rollout. Each command is an annotation that names the rollout it means; the controller obeys it.

use std::time::Duration;

use kube::{Api, ResourceExt};

use super::{Target, find};
use crate::{
    api::{
        ANNOTATION_ABORT, ANNOTATION_PAUSE, ANNOTATION_PROMOTE, ANNOTATION_RETRY, ANNOTATION_UNDO, HasConditions,
        ModelDeployment,
    },
    cluster::{self, Follower, Sight},
    domain::{
        conditions::READY,
        rollout::{Canary, State},
        version,
    },
};

/// How long the controller may take to answer a command.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub async fn promote(target: &Target) -> Result<(), String> {
    let (api, deployment) = find(target).await?;
    let (state, canary) = under_way(&deployment)?;
    let step = format!("{}/{}", state.rollout_id, canary.step_name());
    command(&api, target, ANNOTATION_PROMOTE, &step).await?;
    let held = if state.paused { ", once it is no longer held" } else { "" };
    println!("{}: {} {}{held}", target.name, canary.release.version, next(&deployment, canary));
    Ok(())
}

/// What the end of a canary's present step brings.
fn next(deployment: &ModelDeployment, canary: &Canary) -> String {
    let strategy = deployment.spec.strategy.steps();
    let steps = strategy.iter().flat_map(|strategy| &strategy.steps);
    let next = steps.map(|step| step.weight).find(|weight| *weight > canary.weight);
    match (canary.shadow, next) {
        (Some(_), Some(weight)) => format!("gets no more copies, and begins with {weight} % of requests"),
        (Some(_), None) => "gets no more copies, and takes all requests".into(),
        (None, Some(weight)) => format!("goes from {} % to {weight} % of requests", canary.weight),
        (None, None) => format!("goes from {} % to all requests", canary.weight),
    }
}

/// Where a canary stands, as part of a sentence.
fn stand(canary: &Canary) -> String {
    match canary.shadow {
        Some(share) => format!("copies of {share} % of requests"),
        None => format!("{} %", canary.weight),
    }
}

pub async fn pause(target: &Target) -> Result<(), String> {
    let (api, deployment) = find(target).await?;
    let (state, canary) = under_way(&deployment).map_err(|why| format!("{why}; spec.paused holds the next one"))?;
    command(&api, target, ANNOTATION_PAUSE, &state.rollout_id).await?;
    println!("{}: {} is held at {}", target.name, canary.release.version, stand(canary));
    Ok(())
}

pub async fn resume(target: &Target) -> Result<(), String> {
    let (api, deployment) = find(target).await?;
    let (state, canary) = under_way(&deployment)?;
    let (name, version) = (&target.name, &canary.release.version);
    if deployment.annotations().get(ANNOTATION_PAUSE) != Some(&state.rollout_id) {
        return Err(match deployment.spec.paused {
            true => format!("{name}: spec.paused holds {version}: set that to false where its manifest is"),
            false => {
                format!("{name}: {version}: it is not held; `drover rollout status {name}` says what it waits for")
            }
        });
    }
    // Emptied, not removed: what is there says who set it.
    command(&api, target, ANNOTATION_PAUSE, "").await?;
    let held = if deployment.spec.paused { ", but for spec.paused, which still holds it" } else { "" };
    println!("{name}: {version} goes on from {}{held}", stand(canary));
    Ok(())
}

pub async fn abort(target: &Target) -> Result<(), String> {
    let (api, deployment) = find(target).await?;
    let (state, canary) = under_way(&deployment)
        .map_err(|why| format!("{why}; `drover rollout undo {}` takes back what is live", target.name))?;
    command(&api, target, ANNOTATION_ABORT, &state.rollout_id).await?;
    let stable = state.stable_version().unwrap_or_default();
    println!("{}: {} is called off, {stable} has all requests", target.name, canary.release.version);
    Ok(())
}

pub async fn undo(target: &Target) -> Result<(), String> {
    let (api, deployment) = find(target).await?;
    let (state, name) = (state(&deployment)?, &target.name);
    let (from, to) = match (state.canary_version(), state.stable_version(), &state.previous) {
        (Some(canary), Some(stable), _) => (canary, stable),
        (None, Some(stable), Some(previous)) => (stable, previous.version.as_str()),
        (None, Some(stable), None) => {
            return Err(format!(
                "{name}: there is no earlier version than {stable} to go back to; `drover rollout undo {name} --to VERSION` \
                 goes back to any older one that is registered"
            ));
        }
        _ => return Err(nothing_serves(target, &deployment)),
    };
    if state.handled.undo.as_ref() == Some(&state.rollout_id) {
        return Err(undone_already(target));
    }
    command(&api, target, ANNOTATION_UNDO, &state.rollout_id).await?;
    println!("{name}: going back from {from} to {to}");
    Ok(())
}

/// Waits for the controller's answer, because it alone knows which versions there are.
pub async fn undo_to(target: &Target, version: &str) -> Result<(), String> {
    if !version::is_version(version) {
        return Err(format!("--to {version}: write a version such as v1.0.0; `drover versions list` shows them"));
    }
    let (api, deployment) = find(target).await?;
    let (state, name) = (state(&deployment)?, &target.name);
    let Some(stable) = state.stable_version() else { return Err(nothing_serves(target, &deployment)) };
    let (from, last) = (state.canary_version().unwrap_or(stable), state.audit.first().map_or(0, |entry| entry.number));
    let value = format!("{}/{version}", state.rollout_id);
    if state.handled.undo.as_ref() == Some(&value) {
        return Err(undone_already(target));
    }
    command(&api, target, ANNOTATION_UNDO, &value).await?;
    let Ok(state) = tokio::time::timeout(ANSWER_WITHIN, answer(target, &value)).await else {
        println!(
            "{name}: asked to go back from {from} to {version}; that is done as soon as a ready node holds it and a \
             controller runs: see `drover rollout status {name} -w`"
        );
        return Ok(());
    };
    let state = state?;
    let mut new = state.audit.iter().take_while(|entry| entry.number > last);
    match new.find(|entry| entry.action == "NothingToUndo") {
        Some(refused) => Err(format!("{name}: {}", refused.message)),
        None => {
            println!("{name}: going back from {from} to {version}");
            Ok(())
        }
    }
}

/// The state in which the controller has handled an undo.
async fn answer(target: &Target, undo: &str) -> Result<State, String> {
    let (client, namespace) = target.connect().await?;
    let mut follower = Follower::<ModelDeployment>::new(&client, Some(&namespace), None);
    loop {
        let Sight::Objects(objects) = follower.next().await? else { continue };
        let found = objects.get(&(namespace.clone(), target.name.clone())).and_then(|found| found.status.as_ref());
        let handled = found.filter(|status| status.rollout.handled.undo.as_deref() == Some(undo));
        if let Some(status) = handled {
            return Ok(status.rollout.clone());
        }
    }
}

pub async fn retry(target: &Target) -> Result<(), String> {
    let (api, deployment) = find(target).await?;
    let state = state(&deployment)?;
    let Some(rejected) = &state.rejected else {
        let version = &deployment.spec.version;
        return Err(format!(
            "{}: nothing was taken back that could be tried again: {}",
            target.name,
            match state {
                state if state.stable_version() == Some(version) => format!("{version} has all requests"),
                state if state.canary_version() == Some(version) => format!("{version} is on trial"),
                _ => said(&deployment),
            }
        ));
    };
    command(&api, target, ANNOTATION_RETRY, &state.rollout_id).await?;
    println!("{}: {} is tried again", target.name, rejected.version);
    Ok(())
}

async fn command(api: &Api<ModelDeployment>, target: &Target, key: &str, value: &str) -> Result<(), String> {
    cluster::annotate(api, &target.name, key, value)
        .await
        .map(drop)
        .map_err(|error| format!("{}: {error}", target.name))
}

fn state(deployment: &ModelDeployment) -> Result<&State, String> {
    let status = deployment.status.as_ref();
    let none = || format!("{}: the controller has not seen it yet; see whether one runs", deployment.name_any());
    status.map(|status| &status.rollout).ok_or_else(none)
}

/// The rollout and its canary, or why there is none.
fn under_way(deployment: &ModelDeployment) -> Result<(&State, &Canary), String> {
    let state = state(deployment)?;
    let (name, wanted) = (deployment.name_any(), &deployment.spec.version);
    let why = match (&state.canary, &state.rejected) {
        (Some(canary), _) => return Ok((state, canary)),
        (None, Some(rejected)) => {
            format!("{} was taken back; `drover rollout retry {name}` tries it again", rejected.version)
        }
        (None, None) if state.stable_version() == Some(wanted) => format!("{wanted} has all requests"),
        (None, None) => format!("{wanted} can't begin yet: {}", said(deployment)),
    };
    Err(format!("{name}: no rollout is under way: {why}"))
}

/// What the condition says that people ask for first.
fn said(deployment: &ModelDeployment) -> String {
    let ready = deployment.conditions().iter().find(|condition| condition.type_ == READY);
    ready.map_or_else(String::new, |ready| ready.message.clone())
}

fn undone_already(target: &Target) -> String {
    let name = &target.name;
    format!("{name}: this rollout was undone already; `drover rollout status {name}` says what serves")
}

fn nothing_serves(target: &Target, deployment: &ModelDeployment) -> String {
    format!("{}: nothing to undo: no version serves yet: {}", target.name, said(deployment))
}
