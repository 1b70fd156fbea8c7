//! `drover rollout …`

use clap::{Args, Subcommand, ValueEnum};
use kube::{Api, ResourceExt};

use super::client;
use crate::{
    api::{ANNOTATION_PROMOTE, ANNOTATION_RETRY, ANNOTATION_UNDO, HasConditions, ModelDeployment},
    cluster,
    domain::rollout::State,
};

#[derive(Subcommand)]
pub enum Rollout {
    /// Show which versions have which share of requests, and why
    #[command(after_help = "Example:\n  drover rollout status support-bot -n ml")]
    Status {
        #[command(flatten)]
        target: Target,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Go back: call the canary off, or put the version before the live one back
    #[command(
        after_help = "Takes effect within a second. The version taken back is not tried again until spec.version\n\
            changes or `drover rollout retry`. Example:\n  drover rollout undo support-bot"
    )]
    Undo(Target),
    /// Leave the present step now, also where approval is required
    Promote(Target),
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
    /// The object's status
    Json,
}

pub async fn run(command: Rollout) -> Result<(), String> {
    match command {
        Rollout::Status { target, output } => status(&target, output).await,
        Rollout::Undo(target) => undo(&target).await,
        Rollout::Promote(target) => promote(&target).await,
        Rollout::Retry(target) => retry(&target).await,
    }
}

async fn status(target: &Target, output: Output) -> Result<(), String> {
    let (_, deployment) = find(target).await?;
    match output {
        Output::Text => print!("{}", describe(&deployment)),
        Output::Json => {
            let json = serde_json::to_string_pretty(&deployment.status).map_err(|error| error.to_string())?;
            println!("{json}");
        }
    }
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
        _ => return Err(format!("{}: nothing to undo: no version serves yet", target.name)),
    };
    if state.handled.undo.as_ref() == Some(&state.rollout_id) {
        return Err(format!("{}: this rollout was undone already; see `drover rollout status`", target.name));
    }
    command(&api, target, ANNOTATION_UNDO, &state.rollout_id).await?;
    println!("{}: going back from {from} to {to}", target.name);
    Ok(())
}

async fn promote(target: &Target) -> Result<(), String> {
    let (api, deployment) = find(target).await?;
    let state = state(&deployment)?;
    let Some(canary) = &state.canary else { return Err(format!("{}: no rollout is under way", target.name)) };
    let step = format!("{}/{}", state.rollout_id, canary.step_name());
    command(&api, target, ANNOTATION_PROMOTE, &step).await?;
    println!("{}: {} leaves its step at {} %", target.name, canary.release.version, canary.weight);
    Ok(())
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

async fn find(target: &Target) -> Result<(Api<ModelDeployment>, ModelDeployment), String> {
    let client = client::connect().await?;
    let namespace = target.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let api = cluster::api::<ModelDeployment>(&client, Some(&namespace));
    match api.get_opt(&target.name).await {
        Ok(Some(deployment)) => Ok((api, deployment)),
        Ok(None) => Err(format!("no ModelDeployment {} in namespace {namespace}", target.name)),
        Err(error) => Err(error.to_string()),
    }
}

fn state(deployment: &ModelDeployment) -> Result<&State, String> {
    let status = deployment.status.as_ref();
    let none = || format!("{}: the controller has not seen it yet", deployment.name_any());
    status.map(|status| &status.rollout).ok_or_else(none)
}

fn describe(deployment: &ModelDeployment) -> String {
    let Some(status) = &deployment.status else { return "not seen by the controller yet\n".into() };
    let state = &status.rollout;
    let rollout = if state.rollout_id.is_empty() { "none yet" } else { &state.rollout_id };
    let mut lines = vec![format!("{} ({:?}), rollout: {rollout}", deployment.name_any(), status.phase)];
    let release = |release: &crate::domain::rollout::Release| format!("{}  {}", release.version, release.tag);
    if let Some(stable) = &state.stable {
        lines.push(format!("  stable    {:>3} %  {}", stable.weight, release(&stable.release)));
    }
    if let Some(canary) = &state.canary {
        lines.push(format!(
            "  canary    {:>3} %  {}  step {}",
            canary.weight,
            release(&canary.release),
            canary.step_name()
        ));
    }
    if let Some(previous) = &state.previous {
        lines.push(format!("  previous         {}", release(previous)));
    }
    if let Some(rejected) = &state.rejected {
        lines.push(format!("  rejected         {}  {}", rejected.version, rejected.reason));
    }
    if let Some(rollback) = &state.last_rollback {
        let effect = rollback.effective_at.map_or("not everywhere yet".into(), |at| format!("effective {at}"));
        lines.push(format!(
            "  last rollback    {} -> {}, decided {}, {effect}",
            rollback.from, rollback.to, rollback.decided_at
        ));
    }
    let mut said = "";
    for condition in deployment.conditions() {
        let message = if condition.message == said { "" } else { condition.message.as_str() };
        lines
            .push(format!("  {:<12} {:?}: {message}", condition.type_, condition.status).trim_end_matches(": ").into());
        said = &condition.message;
    }
    lines.join("\n") + "\n"
}
