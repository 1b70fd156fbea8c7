//! `drover providers list`

use clap::{Args, Subcommand, ValueEnum};
use kube::{Api, ResourceExt, api::ListParams};
use serde::Serialize;

use super::{
    client,
    tools::{print_json, print_table},
};
use crate::{
    api::Provider,
    cluster,
    domain::provider::{CATALOGUE, Known, Origin},
    providers::keys::in_environment,
};

#[derive(Subcommand)]
pub enum Providers {
    /// List providers: those that objects declare, and those that Drover knows by itself
    #[command(after_help = "Example:\n  drover providers list\n\n\
            A provider is usable when its key is there, where it needs one, and its last check passed. Its models are called\n\
            provider/NAME/MODEL.")]
    List(List),
}

#[derive(Args)]
pub struct List {
    /// The namespace; without one, the kubeconfig's
    #[arg(short, long)]
    namespace: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// One provider as it is listed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    origin: Origin,
    url: String,
    key: String,
    usable: bool,
    models: i64,
    message: String,
}

pub async fn run(command: Providers) -> Result<(), String> {
    let Providers::List(List { namespace, output }) = command;
    let client = client::connect().await?;
    let api: Api<Provider> = cluster::api(&client, Some(namespace.as_deref().unwrap_or(client.default_namespace())));
    let objects = api.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
    let is_new = |known: &&Known| !objects.iter().any(|object| object.spec.url.trim_end_matches('/') == known.url);
    let others = CATALOGUE.iter().filter(is_new).map(known);
    let rows: Vec<Row> = objects.iter().map(declared).chain(others).collect();
    match output {
        Output::Json => print_json(&rows),
        Output::Table => {
            let head = ["NAME", "ORIGIN", "USABLE", "MODELS", "KEY", "MESSAGE"].map(str::to_owned).to_vec();
            let cells = rows.iter().map(|row| {
                let usable = if row.usable { "yes" } else { "no" };
                let origin = format!("{:?}", row.origin);
                vec![
                    row.name.clone(),
                    origin,
                    usable.into(),
                    row.models.to_string(),
                    row.key.clone(),
                    row.message.clone(),
                ]
            });
            print_table(&[head].into_iter().chain(cells).collect::<Vec<_>>());
            Ok(())
        }
    }
}

fn declared(object: &Provider) -> Row {
    let status = object.status.clone().unwrap_or_default();
    Row {
        name: object.name_any(),
        origin: status.origin,
        url: object.spec.url.clone(),
        key: object.key_source().to_string(),
        usable: object.usable().is_ok(),
        models: status.model_count,
        message: object.usable().err().unwrap_or_default().to_owned(),
    }
}

/// A provider that nobody wrote an object for.
fn known(known: &Known) -> Row {
    let has_key = in_environment(known.variable).is_some();
    let message = match has_key {
        true => "its key is in this shell: `drover up` started here makes it usable, or create a Provider".to_owned(),
        false => format!("no key: set {} for `drover up`, or create a Provider with a Secret", known.variable),
    };
    Row {
        name: known.name.into(),
        origin: if has_key { Origin::CataloguedWithKey } else { Origin::CataloguedWithoutKey },
        url: known.url.into(),
        key: format!("environment variable {}", known.variable),
        usable: false,
        models: 0,
        message,
    }
}
