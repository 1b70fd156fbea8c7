//! `drover rollout …`: what people see of rollouts, and what they ask of them.

mod steer;
mod view;
mod watch;

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use kube::{Api, ResourceExt, api::ListParams};
use serde::Serialize;

use super::{
    DONE, client,
    tools::{print_json, print_table},
    wait::duration,
};
use crate::{
    api::ModelDeployment,
    cluster::{self, Client},
};

/// So many deployments are named where the one that was asked for is not there.
const SOME: u32 = 8;

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
        Rollout::Promote(target) => steer::promote(&target).await,
        Rollout::Pause(target) => steer::pause(&target).await,
        Rollout::Resume(target) => steer::resume(&target).await,
        Rollout::Abort(target) => steer::abort(&target).await,
        Rollout::Undo { target, to: Some(version) } => steer::undo_to(&target, &version).await,
        Rollout::Undo { target, to: None } => steer::undo(&target).await,
        Rollout::Retry(target) => steer::retry(&target).await,
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

impl Target {
    async fn connect(&self) -> Result<(Client, String), String> {
        let client = client::connect().await?;
        let namespace = self.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        Ok((client, namespace))
    }

    /// What is said where it isn't among those that are there.
    fn missing(&self, namespace: &str, there: impl Iterator<Item = String>) -> String {
        let there: Vec<String> = there.take(SOME as usize).collect();
        let advice = match &there[..] {
            [] => "there is none at all; -n names another namespace, and `drover deploy` makes one".into(),
            there => format!("there is {}", there.join(", ")),
        };
        format!("no ModelDeployment {} in namespace {namespace}: {advice}", self.name)
    }
}

async fn find(target: &Target) -> Result<(Api<ModelDeployment>, ModelDeployment), String> {
    let (client, namespace) = target.connect().await?;
    let api = cluster::api::<ModelDeployment>(&client, Some(&namespace));
    if let Some(deployment) = api.get_opt(&target.name).await.map_err(|error| error.to_string())? {
        return Ok((api, deployment));
    }
    let others = api.list_metadata(&ListParams::default().limit(SOME)).await.map_err(|error| error.to_string())?;
    Err(target.missing(&namespace, others.iter().map(ResourceExt::name_any)))
}
