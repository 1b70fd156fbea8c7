//! `drover registry restore`

use std::{collections::BTreeMap, path::Path, time::Duration};

use clap::Args;
use kube::ResourceExt;
use tokio::time::Instant;

use super::{
    read,
    transfer::{Told, bring_back, chosen},
};
use crate::{
    api::{ANNOTATION_UNDO, ModelDeployment},
    cli::registered::Registered,
    cluster,
    domain::{
        registry::ModelRecord,
        rollout::{Outcome, State},
    },
};

/// A version that was registered again is known to the controller within this time, if there is one.
const KNOWN_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Args)]
pub struct Restore {
    /// Only this model
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// The number of a snapshot, as `drover registry snapshots` has it, or a file; without it, the last snapshot
    #[arg(long, value_name = "NUMBER|FILE")]
    snapshot: Option<String>,
    /// The namespace; without one, the kubeconfig's
    #[arg(short, long)]
    namespace: Option<String>,
}

pub async fn restore(command: &Restore) -> Result<(), String> {
    let registered = Registered::load(command.namespace.as_deref()).await?;
    let mut told = Told::default();
    for (model, record) in records(command, &registered).await? {
        told.add(bring_back(&registered, &model, &record, false).await?);
        match go_back(&registered, &model, &record).await {
            Ok(said) => println!("{model}: {said}"),
            Err(why) => told.fault(format!("{model}: {why}")),
        }
    }
    told.print("registered again")
}

/// What to go back to, by model.
async fn records(command: &Restore, registered: &Registered) -> Result<BTreeMap<String, ModelRecord>, String> {
    let model = command.model.as_deref();
    let number = command.snapshot.as_ref().map(|snapshot| snapshot.parse::<i64>());
    if let (Some(path), Some(Err(_))) = (&command.snapshot, &number) {
        return chosen(read(Path::new(path))?.models, model, path);
    }
    let number = number.and_then(Result::ok);
    if number.is_some() && model.is_none() {
        return Err("--snapshot NUMBER needs --model: each model has numbers of its own".into());
    }
    let kept =
        cluster::snapshots(&registered.client, &registered.namespace).await.map_err(|error| error.to_string())?;
    let place = format!("namespace {}", registered.namespace);
    let pick = |(model, snapshots): (String, crate::domain::registry::Snapshots)| {
        let number = number.or_else(|| snapshots.numbers().first().copied());
        let found = number.and_then(|number| snapshots.get(number));
        let found =
            found.ok_or_else(|| format!("{model} has no such snapshot: `drover registry snapshots {model}` lists all"));
        found.map(|snapshot| (model, snapshot.model))
    };
    let kept = chosen(kept, model, &place).map_err(|error| format!("{error}: no snapshot was kept"))?;
    if kept.is_empty() {
        return Err(format!("{place} has no snapshots"));
    }
    kept.into_iter().map(pick).collect()
}

/// Has the version serve that served; says what follows.
///
/// # Errors
/// Why it can't.
async fn go_back(registered: &Registered, model: &str, record: &ModelRecord) -> Result<String, String> {
    let Some(current) = &record.current else { return Ok("nothing served then, so nothing is changed".into()) };
    let deployment = registered.deployment(model);
    let deployment = deployment
        .ok_or_else(|| format!("there is no ModelDeployment: `drover deploy {model} {current}` makes one"))?;
    let state = registered.rollout(model).ok_or("the controller has not seen its ModelDeployment yet; try again")?;
    if state.stable_version() == Some(current) && state.canary.is_none() {
        return Ok(format!("{current} serves already"));
    }
    may_come_back(state, current, deployment)?;
    until_known(registered, model, current).await?;
    let api = cluster::api::<ModelDeployment>(&registered.client, Some(&registered.namespace));
    let command = format!("{}/{current}", state.rollout_id);
    let annotated = cluster::annotate(&api, &deployment.name_any(), ANNOTATION_UNDO, &command).await;
    annotated.map_err(|error| error.to_string())?;
    let from = state.canary_version().or(state.stable_version()).unwrap_or("nothing");
    Ok(format!("going back from {from} to {current}, once a node holds it"))
}

fn may_come_back(state: &State, version: &str, deployment: &ModelDeployment) -> Result<(), String> {
    let last = state.history.iter().find(|entry| entry.release.version == version);
    match last.filter(|entry| entry.outcome == Outcome::RolledBack) {
        Some(entry) => Err(format!(
            "{version} was taken back since: {}; ask for it by `drover deploy` or `drover rollout retry {}`",
            entry.reason,
            deployment.name_any()
        )),
        None => Ok(()),
    }
}

/// Waits until the controller knows what a version stands for: before that, it can't go back to it.
async fn until_known(registered: &Registered, model: &str, version: &str) -> Result<(), String> {
    let end = Instant::now() + KNOWN_WITHIN;
    loop {
        let now = registered.again().await?;
        let found = now.version(model, version)?;
        let is_provided = found.spec.source.provider.is_some();
        if is_provided || found.status.as_ref().is_some_and(|status| status.digest.is_some()) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!(
                "{version} has no digest yet: see `drover versions show {model} {version}`, then try again"
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
