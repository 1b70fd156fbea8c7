//! `drover versions …`

mod changelog;
mod create;
mod lineage;
mod list;

pub use create::{Making, Outcome, register, taken};

use clap::{Args, Subcommand};
use kube::ResourceExt;
use similar::TextDiff;

use super::{
    manifests::yaml,
    registered::{Registered, model, version},
    tools::Output,
};
use crate::{api::ModelVersion, domain::version::Part};

/// Lines around a difference.
const CONTEXT: usize = 3;

#[derive(Subcommand)]
pub enum Versions {
    /// List versions: where each one is in its life, and on how many nodes
    #[command(after_help = "Examples:\n  drover versions list\n  drover versions list support-bot -o name")]
    List {
        /// Only those of this model
        model: Option<String>,
        /// Their namespace; without one, the kubeconfig's
        #[arg(short, long)]
        namespace: Option<String>,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Show one version: what it is made of, and how it is
    #[command(after_help = "Example:\n  drover versions show support-bot v1.1.0")]
    Show {
        #[command(flatten)]
        target: Target,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = list::Form::Text)]
        output: list::Form,
    },
    /// Print the version that comes next
    #[command(
        after_help = "A version with a suffix comes before the one without it: after v1.2.0-rc.1, --minor is v1.2.0.\n\n\
            Example:\n  drover versions create support-bot $(drover versions next support-bot --minor) --tag llama3.2:3b"
    )]
    Next {
        /// The model
        #[arg(value_parser = model)]
        model: String,
        #[command(flatten)]
        part: Counted,
        /// Its namespace; without one, the kubeconfig's
        #[arg(short, long)]
        namespace: Option<String>,
    },
    /// Show what two versions differ in
    #[command(after_help = "Example:\n  drover versions diff support-bot v1.0.0 v1.1.0")]
    Diff {
        /// The model
        model: String,
        /// From this version
        from: String,
        /// To that one
        to: String,
        /// Their namespace; without one, the kubeconfig's
        #[arg(short, long)]
        namespace: Option<String>,
    },
    /// Show which version was made from which
    #[command(
        after_help = "Examples:\n  drover versions lineage support-bot\n  drover versions lineage support-bot v1.1.0    # what it comes from"
    )]
    Lineage {
        /// The model
        model: String,
        /// Only what this version comes from
        version: Option<String>,
        /// Its namespace; without one, the kubeconfig's
        #[arg(short, long)]
        namespace: Option<String>,
    },
    /// Print what changed from version to version, as Markdown
    #[command(after_help = "Example:\n  drover versions changelog support-bot --since v1.0.0 > CHANGES.md")]
    Changelog {
        /// The model
        model: String,
        /// Only of versions after this one
        #[arg(long, value_name = "VERSION", value_parser = version)]
        since: Option<String>,
        /// Its namespace; without one, the kubeconfig's
        #[arg(short, long)]
        namespace: Option<String>,
    },
    /// Register a version
    #[command(
        after_help = "Examples:\n  drover versions create support-bot v1.1.0 --tag llama3.2:3b --system-file prompt.txt --parent v1.0.0\n  \
            drover versions create support-bot --patch --tag llama3.2:3b --parameter temperature=0.2\n  \
            drover versions create support-bot v2.0.0 --provider openrouter/meta-llama/llama-3.1-70b-instruct --dry-run > v2.yaml\n\n\
            What a version is can't be changed later. Registered once more as it is, nothing happens; with anything else it is\n\
            refused. It gets no requests: `drover deploy` gives it some."
    )]
    Create(Box<create::Create>),
}

/// Which version.
#[derive(Args)]
pub struct Target {
    /// The model
    pub model: String,
    /// The version
    pub version: String,
    /// Its namespace; without one, the kubeconfig's
    #[arg(short, long)]
    pub namespace: Option<String>,
}

/// Which part of a version counts up.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct Counted {
    /// v1.2.3 becomes v1.2.4: it is better
    #[arg(long)]
    patch: bool,
    /// v1.2.3 becomes v1.3.0: it can more
    #[arg(long)]
    minor: bool,
    /// v1.2.3 becomes v2.0.0: callers have to be changed
    #[arg(long)]
    major: bool,
}

impl Counted {
    fn part(&self) -> Part {
        match self {
            Self { major: true, .. } => Part::Major,
            Self { minor: true, .. } => Part::Minor,
            _ => Part::Patch,
        }
    }
}

/// Does what was asked; an error ends the process with 1.
pub async fn run(command: Versions) -> Result<(), String> {
    match command {
        Versions::List { model, namespace, output } => list::list(model.as_deref(), namespace.as_deref(), output).await,
        Versions::Show { target, output } => list::show(&target, output).await,
        Versions::Next { model, part, namespace } => {
            let registered = Registered::load(namespace.as_deref()).await?;
            println!("{}", next(&registered, &model, part.part())?);
            Ok(())
        }
        Versions::Diff { model, from, to, namespace } => diff(&model, [&from, &to], namespace.as_deref()).await,
        Versions::Lineage { model, version, namespace } => {
            lineage::lineage(&model, version.as_deref(), namespace.as_deref()).await
        }
        Versions::Changelog { model, since, namespace } => {
            changelog::changelog(&model, since.as_deref(), namespace.as_deref()).await
        }
        Versions::Create(command) => create::create(&command).await,
    }
}

fn next(registered: &Registered, model: &str, part: Part) -> Result<String, String> {
    let versions = registered.of_model(model).map(|version| &*version.spec.version);
    crate::domain::version::next(versions, part)
}

async fn diff(model: &str, versions: [&str; 2], namespace: Option<&str>) -> Result<(), String> {
    let registered = Registered::load(namespace).await?;
    let [from, to] = versions.map(|version| registered.version(model, version).and_then(text));
    let (from, to) = (from?, to?);
    let [old, new] = versions.map(|version| format!("{model} {version}"));
    let diff = TextDiff::from_lines(&from, &to);
    print!("{}", diff.unified_diff().context_radius(CONTEXT).header(&old, &new));
    Ok(())
}

/// What a version is, with the digest that it stands for.
fn text(version: &ModelVersion) -> Result<String, String> {
    let mut spec = serde_json::to_value(&version.spec).map_err(|error| error.to_string())?;
    let digest = version.status.as_ref().and_then(|status| status.digest.clone());
    if let (Some(source), Some(digest)) = (spec.pointer_mut("/source/ollama"), digest) {
        source["digest"] = digest.into();
    }
    yaml(spec).map_err(|error| format!("{}: {error}", version.name_any()))
}
