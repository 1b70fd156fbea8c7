//! `drover rollout …`: what people see of rollouts, and what they ask of them.

mod view;
mod watch;

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use kube::{Api, ResourceExt};
use serde::Serialize;

use super::{
    DONE, client,
    tools::{print_json, print_table},
    wait::duration,
};
use crate::{
    api::{ANNOTATION_ABORT, ANNOTATION_PAUSE, ANNOTATION_PROMOTE, ANNOTATION_RETRY, ANNOTATION_UNDO, ModelDeployment},
    cluster::{self, Client, Follower, Sight},
    domain::rollout::State,
};

/// How long the controller may take to answer a command.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

#[derive(Subcommand)]
pub enum Rollout {
    /// Show which versions have which share of requests, and why
    #[command(
        after_help = "With -w it follows the rollout until it is over: on a terminal as bars with a countdown, elsewhere a \
            line for each change.\n\nExit codes of -w: 0 the version that spec.version asks for serves; 1 it was taken \
            back, or requests fail; 2 neither within --timeout; 130 interrupted.\n\n\
            Examples:\n  drover rollout status support-bot -n ml\n  drover rollout status support-bot -w --timeout 1h"
    )]
    Status {
        #[command(flatten)]
        target: Target,
        /// Follow it until it is over
        #[arg(short, long, conflicts_with = "output")]
        watch: bool,
        /// How long to follow it; without one, for as long as it takes
        #[arg(long, requires = "watch", value_parser = duration, value_name = "DURATION")]
        timeout: Option<Duration>,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Show what went live and what was taken back: when, why and by whom
    #[command(after_help = "The last ten changes of what serves. `drover audit` shows everything that was done.")]
    History {
        #[command(flatten)]
        target: Target,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Leave the present step now, also where approval is required
    Promote(Target),
    /// Hold the canary at its step
    #[command(
        after_help = "It holds the rollout that is under way, not the next one, and outlives `kubectl apply` and GitOps, as it \
            is an annotation. spec.paused holds every rollout. What is held can be called off all the same, by a person or by \
            its analysis."
    )]
    Pause(Target),
    /// Let a canary that `drover rollout pause` holds go on
    Resume(Target),
    /// Call the canary off; what went live meanwhile stays
    Abort(Target),
    /// Go back: call the canary off, or put the version before the live one back
    #[command(
        after_help = "Takes effect within a second. The version taken back is not tried again until spec.version \
            changes or `drover rollout retry`. Example:\n  drover rollout undo support-bot\n  \
            drover rollout undo support-bot --to v1.0.0"
    )]
    Undo {
        #[command(flatten)]
        target: Target,
        /// The version to go back to: one that served, or an older one, that nodes hold
        #[arg(long, value_name = "VERSION")]
        to: Option<String>,
    },
    /// Try a version again that was taken back
    Retry(Target),
}

#[derive(Args)]
pub struct Target {
    /// Name of the ModelDeployment
    name: String,
    /// Its namespace; without one, the kubeconfig's
    #[arg(short, long)]
    namespace: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For programs
    Json,
    /// For programs, and people too
    Yaml,
}

/// Does what was asked, and says how the process ends; an error ends it with 1.
pub async fn run(command: Rollout) -> Result<u8, String> {
    match command {
        Rollout::Status { target, watch: true, timeout, .. } => return watch::watch(&target, timeout).await,
        Rollout::Status { target, output, .. } => status(&target, output).await,
        Rollout::History { target, output } => history(&target, output).await,
        Rollout::Promote(target) => promote(&target).await,
        Rollout::Pause(target) => pause(&target).await,
        Rollout::Resume(target) => resume(&target).await,
        Rollout::Abort(target) => abort(&target).await,
        Rollout::Undo { target, to: Some(version) } => undo_to(&target, &version).await,
        Rollout::Undo { target, to: None } => undo(&target).await,
        Rollout::Retry(target) => retry(&target).await,
    }
    .map(|()| DONE)
}

async fn status(target: &Target, output: Output) -> Result<(), String> {
    let (_, deployment) = find(target).await?;
    print(&deployment.status, output, || print!("{}", view::describe(&deployment, Timestamp::now())))
}

async fn history(target: &Target, output: Output) -> Result<(), String> {
    let (_, deployment) = find(target).await?;
    let history = deployment.status.map(|status| status.rollout.history).unwrap_or_default();
    print(&history, output, || print_table(&view::history(&history)))
}

fn print(value: &impl Serialize, output: Output, text: impl FnOnce()) -> Result<(), String> {
    match output {
        Output::Text => text(),
        Output::Json => print_json(value)?,
        Output::Yaml => print!("{}", serde_yaml::to_string(value).map_err(|error| error.to_string())?),
    }
    Ok(())
}

async fn promote(target: &Target) -> Result<(), String> {
    let (api, deployment) = find(target).await?;
    let state = state(&deployment)?;
    let Some(canary) = &state.canary else { return Err(not_under_way(target)) };
    let step = format!("{}/{}", state.rollout_id, canary.step_name());
    command(&api, target, ANNOTATION_PROMOTE, &step).await?;
    let held = if state.paused { ", once it is no longer held" } else { "" };
    println!("{}: {} leaves its step at {} %{held}", target.name, canary.release.version, canary.weight);
    Ok(())
}

async fn pause(target: &Target) -> Result<(), String> {
    let (api, deployment) = find(target).await?;
    let state = state(&deployment)?;
    let Some(canary) = &state.canary else {
        return Err(format!("{}; spec.paused holds the next one", not_under_way(target)));
    };
    command(&api, target, ANNOTATION_PAUSE, &state.rollout_id).await?;
    println!("{}: {} is held at {} %", target.name, canary.release.version, canary.weight);
    Ok(())
}

async fn resume(target: &Target) -> Result<(), String> {
    let (api, deployment) = find(target).await?;
    let state = state(&deployment)?;
    let Some(canary) = &state.canary else { return Err(not_under_way(target)) };
    if deployment.annotations().get(ANNOTATION_PAUSE) != Some(&state.rollout_id) {
        let advice = if deployment.spec.paused { "spec.paused holds it: set that to false" } else { "it is not held" };
        return Err(format!("{}: {advice}", target.name));
    }
    // Emptied, not removed: what is there says who set it.
    command(&api, target, ANNOTATION_PAUSE, "").await?;
    let held = if deployment.spec.paused { ", but for spec.paused, which still holds it" } else { "" };
    println!("{}: {} goes on from {} %{held}", target.name, canary.release.version, canary.weight);
    Ok(())
}

async fn abort(target: &Target) -> Result<(), String> {
    let (api, deployment) = find(target).await?;
    let state = state(&deployment)?;
    let Some(canary) = &state.canary else {
        return Err(format!("{}; `drover rollout undo` takes back what is live", not_under_way(target)));
    };
    command(&api, target, ANNOTATION_ABORT, &state.rollout_id).await?;
    let stable = state.stable_version().unwrap_or_default();
    println!("{}: {} is called off, {stable} gets all requests", target.name, canary.release.version);
    Ok(())
}

async fn undo(target: &Target) -> Result<(), String> {
    let (api, deployment) = find(target).await?;
    let state = state(&deployment)?;
    let (from, to) = match (state.canary_version(), state.stable_version(), &state.previous) {
        (Some(canary), Some(stable), _) => (canary, stable),
        (None, Some(stable), Some(previous)) => (stable, previous.version.as_str()),
        (None, Some(stable), None) => {
            let name = &target.name;
            return Err(format!(
                "{name}: nothing to undo: {stable} has all requests and there is no earlier version to go back to"
            ));
        }
        _ => return Err(nothing_serves(target)),
    };
    if state.handled.undo.as_ref() == Some(&state.rollout_id) {
        return Err(format!("{}: this rollout was undone already; see `drover rollout status`", target.name));
    }
    command(&api, target, ANNOTATION_UNDO, &state.rollout_id).await?;
    println!("{}: going back from {from} to {to}", target.name);
    Ok(())
}

/// Waits for the controller's answer, because it alone knows which versions there are.
async fn undo_to(target: &Target, version: &str) -> Result<(), String> {
    let (api, deployment) = find(target).await?;
    let state = state(&deployment)?;
    let Some(stable) = state.stable_version() else { return Err(nothing_serves(target)) };
    let (from, last) = (state.canary_version().unwrap_or(stable), state.audit.first().map_or(0, |entry| entry.number));
    let value = format!("{}/{version}", state.rollout_id);
    if state.handled.undo.as_ref() == Some(&value) {
        return Err(format!("{}: this rollout was undone already; see `drover rollout status`", target.name));
    }
    command(&api, target, ANNOTATION_UNDO, &value).await?;
    let answered = tokio::time::timeout(ANSWER_WITHIN, answer(target, &value)).await;
    let Ok(state) = answered else {
        println!("{}: going back from {from} to {version} as soon as a ready node holds it", target.name);
        return Ok(());
    };
    let refused = |state: &State| {
        let mut new = state.audit.iter().take_while(|entry| entry.number > last);
        new.find(|entry| entry.action == "NothingToUndo").map(|entry| entry.message.clone())
    };
    match refused(&state?) {
        Some(why) => Err(format!("{}: {why}", target.name)),
        None => {
            println!("{}: going back from {from} to {version}", target.name);
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

async fn retry(target: &Target) -> Result<(), String> {
    let (api, deployment) = find(target).await?;
    let state = state(&deployment)?;
    let Some(rejected) = &state.rejected else { return Err(format!("{}: nothing was taken back", target.name)) };
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

impl Target {
    async fn connect(&self) -> Result<(Client, String), String> {
        let client = client::connect().await?;
        let namespace = self.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        Ok((client, namespace))
    }

    fn missing(&self, namespace: &str) -> String {
        format!("no ModelDeployment {} in namespace {namespace}", self.name)
    }
}

async fn find(target: &Target) -> Result<(Api<ModelDeployment>, ModelDeployment), String> {
    let (client, namespace) = target.connect().await?;
    let api = cluster::api::<ModelDeployment>(&client, Some(&namespace));
    match api.get_opt(&target.name).await {
        Ok(Some(deployment)) => Ok((api, deployment)),
        Ok(None) => Err(target.missing(&namespace)),
        Err(error) => Err(error.to_string()),
    }
}

fn state(deployment: &ModelDeployment) -> Result<&State, String> {
    let status = deployment.status.as_ref();
    let none = || format!("{}: the controller has not seen it yet", deployment.name_any());
    status.map(|status| &status.rollout).ok_or_else(none)
}

fn not_under_way(target: &Target) -> String {
    format!("{}: no rollout is under way", target.name)
}

fn nothing_serves(target: &Target) -> String {
    format!("{}: nothing to undo: no version serves yet", target.name)
}
