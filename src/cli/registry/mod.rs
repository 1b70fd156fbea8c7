//! `drover registry …`

mod restore;
mod transfer;

use std::{fs, io::Read, path::Path};

use clap::Subcommand;

use super::{
    providers::Output,
    registered::Registered,
    tools::{print_json, print_table},
};
use crate::{cluster, domain::registry::Book};

#[derive(Subcommand)]
pub enum Registry {
    /// Write every version, and which one serves, as one JSON file
    #[command(after_help = "Example:\n  drover registry export -n team > registry.json\n\n\
            Lifecycles are not_deployed, canary_20pct, canary_50pct (or whatever the weight is), deployed and archived.")]
    Export {
        /// Models; without any, all
        models: Vec<String>,
        /// Their namespace; without one, the kubeconfig's
        #[arg(short, long)]
        namespace: Option<String>,
    },
    /// Register the versions of such a file
    #[command(after_help = "Example:\n  drover registry import registry.json -n elsewhere\n\n\
            Versions get the digests that they had. What is there already stays as it is: where it differs, that is said, and\n\
            the exit code is 1. Nothing is deployed: `drover deploy` does that.")]
    Import(transfer::Import),
    /// List the snapshots that were kept before each change of a lifecycle, ten of each model
    #[command(after_help = "Example:\n  drover registry snapshots support-bot")]
    Snapshots {
        /// The model; without one, all
        model: Option<String>,
        /// Its namespace; without one, the kubeconfig's
        #[arg(short, long)]
        namespace: Option<String>,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Go back to what a snapshot has: missing versions are registered again, and the version that served serves again
    #[command(
        after_help = "Examples:\n  drover registry restore --model support-bot                  # the last snapshot\n  \
            drover registry restore --model support-bot --snapshot 7\n  \
            drover registry restore --snapshot registry.json             # what `drover registry export` wrote\n\n\
            No version is changed: where one differs, that is said, and the exit code is 1. Going back is what\n\
            `drover rollout undo --to VERSION` does; what a canary had then it gets by another rollout."
    )]
    Restore(restore::Restore),
}

/// Does what was asked; an error ends the process with 1.
pub async fn run(command: Registry) -> Result<(), String> {
    match command {
        Registry::Export { models, namespace } => export(&models, namespace.as_deref()).await,
        Registry::Import(command) => transfer::import(&command).await,
        Registry::Snapshots { model, namespace, output } => {
            snapshots(model.as_deref(), namespace.as_deref(), output).await
        }
        Registry::Restore(command) => restore::restore(&command).await,
    }
}

async fn export(models: &[String], namespace: Option<&str>) -> Result<(), String> {
    let registered = Registered::load(namespace).await?;
    for model in models {
        registered.known(model)?;
    }
    let chosen = registered.models().into_iter().filter(|model| models.is_empty() || models.iter().any(|m| m == model));
    let records = chosen.map(|model| Ok((model.to_owned(), registered.record(model)?)));
    print_json(&Book::new(records.collect::<Result<_, String>>()?))
}

async fn snapshots(model: Option<&str>, namespace: Option<&str>, output: Output) -> Result<(), String> {
    let registered = Registered::load(namespace).await?;
    let found =
        cluster::snapshots(&registered.client, &registered.namespace).await.map_err(|error| error.to_string())?;
    let found = found.iter().filter(|(name, _)| model.is_none_or(|model| *name == model));
    let all = found.flat_map(|(model, snapshots)| {
        snapshots.numbers().into_iter().filter_map(move |number| Some((model, number, snapshots.get(number)?)))
    });
    if let Output::Json = output {
        let items = all.map(|(_, number, snapshot)| serde_json::json!({ "number": number, "snapshot": snapshot }));
        return print_json(&items.collect::<Vec<_>>());
    }
    let head = ["MODEL", "NUMBER", "TAKEN", "CURRENT", "CANARY", "VERSIONS"].map(str::to_owned).to_vec();
    let or_none = |version: Option<String>| version.unwrap_or_else(|| "-".into());
    let rows = all.map(|(model, number, snapshot)| {
        let taken = snapshot.taken_at.strftime("%Y-%m-%d %H:%M:%S").to_string();
        let (current, canary) = (or_none(snapshot.model.current), or_none(snapshot.model.canary));
        vec![model.clone(), number.to_string(), taken, current, canary, snapshot.model.versions.len().to_string()]
    });
    print_table(&[head].into_iter().chain(rows).collect::<Vec<_>>());
    Ok(())
}

/// A file as `drover registry export` writes it; `-` is standard input.
fn read(path: &Path) -> Result<Book, String> {
    let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    Book::read(&text.map_err(|error| fault(&error))?).map_err(|error| fault(&error))
}
