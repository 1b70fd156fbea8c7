//! `drover chain lint|try`

mod lint;

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{catalog::rows, names::Sight, tools::print_table};
use crate::domain::directory::{Chain, End, Failure, Outcome, Stop, walk};

#[derive(Subcommand)]
pub enum ChainCommand {
    /// Check the FallbackChains in files, without a cluster: for Git hooks. Exit code 1 if one would be refused
    #[command(after_help = "Example:\n  drover chain lint fleet/*.yaml\n\n\
            Chains, profiles, workers and deployments of all files are looked at together; what else a chain names is taken to be there.")]
    Lint {
        /// Files of manifests, YAML or JSON
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Walk a chain whose steps fail as it is said; no model is called
    #[command(after_help = "Example:\n  drover chain try extract --fail 1=SchemaFailure --fail 2=Timeout")]
    Try(Try),
}

#[derive(Args)]
pub struct Try {
    /// The FallbackChain
    name: String,
    /// How a step fails: its number, and Error, Timeout, Unavailable, SchemaFailure, ContextOverflow or Empty
    #[arg(long = "fail", value_name = "STEP=FAILURE", value_parser = failure)]
    failures: Vec<(usize, Failure)>,
    /// The namespace; without one, the kubeconfig's
    #[arg(short, long)]
    namespace: Option<String>,
}

fn failure(text: &str) -> Result<(usize, Failure), String> {
    let (step, failure) = text.split_once('=').ok_or("write STEP=FAILURE, such as 1=SchemaFailure")?;
    let step = step.parse().ok().filter(|step| *step > 0).ok_or("the step is a number from 1")?;
    Ok((step, failure.parse()?))
}

/// Does what was asked; an error ends the process with 1.
pub async fn run(command: ChainCommand) -> Result<(), String> {
    match command {
        ChainCommand::Lint { files } => lint::run(&files),
        ChainCommand::Try(walk) => try_out(&walk).await,
    }
}

async fn try_out(Try { name, failures, namespace }: &Try) -> Result<(), String> {
    let sight = Sight::of(namespace.as_deref()).await?;
    let directory = sight.compiled().directory;
    let chain: &Chain<Value> =
        directory.chains.get(name).ok_or_else(|| directory.unknown(&format!("chain/{name}")).to_string())?;
    if let Some(fault) = &chain.fault {
        return Err(format!("chain {name} is not served: {}: {fault}", fault.reason()));
    }
    let found: Vec<_> =
        chain.steps.iter().map(|step| directory.ways(&step.pointer, chain.floor.and(step.floor), |_| None)).collect();
    let steps: Vec<Stop<'_>> = chain
        .steps
        .iter()
        .zip(&found)
        .map(|(step, found)| Stop { on: &step.on, is_available: found.is_ok() })
        .collect();
    if let Some((beyond, _)) = failures.iter().find(|(step, _)| *step > steps.len()) {
        return Err(format!("chain {name} has {} steps, there is no step {beyond}", steps.len()));
    }
    let failures: BTreeMap<usize, Failure> = failures.iter().map(|(step, failure)| (step - 1, *failure)).collect();
    let (visited, end) = walk(&steps, chain.max_attempts, &failures);
    let cells = visited.iter().map(|(at, outcome)| {
        let (model, why) = match &found[*at] {
            Ok(ways) => (ways.first().map_or("-", |way| way.model.name.as_str()).to_owned(), String::new()),
            Err(none) => ("-".to_owned(), none.to_string()),
        };
        let outcome = match outcome {
            Outcome::Skipped => format!("skipped: {why}"),
            Outcome::Failed(failure) => format!("fails: {failure}"),
            Outcome::Answered => "answers".into(),
        };
        [(at + 1).to_string(), chain.steps[*at].target.clone(), model, outcome]
    });
    print_table(&rows(["STEP", "TARGET", "MODEL", "OUTCOME"], cells));
    println!(
        "{}",
        match end {
            End::Answered => "the request is answered".to_owned(),
            End::Stays(failure) => format!("the request fails: {failure} does not leave this step"),
            End::NoMoreSteps => "the request fails: there is no further step".into(),
            End::NoMoreAttempts => format!("the request fails: there were {} attempts", chain.max_attempts),
        }
    );
    Ok(())
}
