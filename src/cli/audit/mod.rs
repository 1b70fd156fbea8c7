//! `drover audit`: who did what to which version, when and why.

mod serve;

use std::sync::Arc;

use clap::Args;
use kube::api::ListParams;

pub use serve::{Shown, router};

use super::{
    client, runs,
    tools::{Output, print_json, print_table},
    up,
};
use crate::{
    api::ModelDeployment,
    cluster,
    controller::{audit, client as audit_client},
    domain::rollout::Entry,
    ports::{AuditFilter, AuditLog, AuditRecord},
    records::{self, Place},
    settings::Settings,
};

/// How many entries are listed if nobody says.
const LIMIT: usize = 100;
const USUAL_CONTROLLER: &str = "http://127.0.0.1:11438";

#[derive(Args)]
pub struct Audit {
    /// Only what was done in this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// Only what was done to versions of this model line
    #[arg(long)]
    model: Option<String>,
    /// Only what this ModelDeployment did
    #[arg(long)]
    deployment: Option<String>,
    /// Only from then on: a time, or how long ago, such as 24h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// How many entries at most, the newest
    #[arg(long, default_value_t = LIMIT, value_name = "COUNT")]
    limit: usize,
    /// URL of the controller's health port; without one, that of this machine's `drover up`, else http://127.0.0.1:11438
    #[arg(long, env = "DROVER_CONTROLLER", value_name = "URL")]
    controller: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Opens the audit where the settings say; `None` where they say nothing.
///
/// # Errors
/// When its file can't be made.
pub fn open(settings: &Settings) -> Result<Option<Arc<dyn AuditLog>>, String> {
    let place = match (&settings.records, &settings.data_dir) {
        (Some(url), _) => Place::Postgres(url.clone()),
        (None, Some(dir)) => Place::Folder(dir.clone()),
        (None, None) => return Ok(None),
    };
    records::audit::open(&place).map(Some)
}

/// Does what was asked; an error ends the process with 1.
pub async fn run(command: Audit) -> Result<(), String> {
    let since = command.since.as_deref().map(|since| runs::moment("--since", since)).transpose()?;
    let found = match ask(&command, since.as_deref()).await {
        Ok(found) => found,
        Err(why) if command.controller.is_some() => return Err(why),
        Err(why) => {
            eprintln!("drover: {why}; the statuses of ModelDeployments have their last entries:");
            from_statuses(&command, since.as_deref()).await?
        }
    };
    match command.output {
        Output::Json => print_json(&found),
        Output::Name => {
            found.iter().for_each(|record| println!("{}", record.id()));
            Ok(())
        }
        Output::Table if found.is_empty() => {
            eprintln!("drover: nothing is on record that fits");
            Ok(())
        }
        Output::Table => {
            let head = ["WHEN", "DEPLOYMENT", "VERSION", "WHAT", "WHY", "WHO"].map(str::to_owned).to_vec();
            print_table(&[head].into_iter().chain(found.iter().map(row)).collect::<Vec<_>>());
            Ok(())
        }
    }
}

fn row(record: &AuditRecord) -> Vec<String> {
    let AuditRecord { namespace, deployment, entry, .. } = record;
    let Entry { at, action, version, message, by, .. } = entry;
    let when = at.strftime("%Y-%m-%d %H:%M:%S").to_string();
    vec![when, format!("{namespace}/{deployment}"), version.clone(), action.clone(), message.clone(), by.clone()]
}

/// What the controller has on record.
async fn ask(command: &Audit, since: Option<&str>) -> Result<Vec<AuditRecord>, String> {
    let running = || up::running().map(|(_, ready)| ready.health);
    let base = command.controller.clone().or_else(running).unwrap_or_else(|| USUAL_CONTROLLER.into());
    let limit = command.limit.to_string();
    let given = [
        ("namespace", command.namespace.as_deref()),
        ("model", command.model.as_deref()),
        ("deployment", command.deployment.as_deref()),
        ("since", since),
        ("limit", Some(limit.as_str())),
    ];
    let query: Vec<(&str, &str)> = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    audit_client::audit(&base, &query).await
}

/// What the statuses still tell.
async fn from_statuses(command: &Audit, since: Option<&str>) -> Result<Vec<AuditRecord>, String> {
    let filter = AuditFilter {
        namespace: command.namespace.clone(),
        model: command.model.clone(),
        deployment: command.deployment.clone(),
        since: since.map(str::parse).transpose().map_err(|error| format!("--since: {error}"))?,
    };
    let client = client::connect().await?;
    let api = cluster::api::<ModelDeployment>(&client, command.namespace.as_deref());
    let objects = api.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
    let mut found: Vec<_> = objects.iter().flat_map(audit::records).filter(|record| filter.fits(record)).collect();
    found.sort_by_key(|record| std::cmp::Reverse((record.entry.at, record.id())));
    found.truncate(command.limit);
    Ok(found)
}
