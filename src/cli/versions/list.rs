//! `drover versions list` and `show`.

use clap::ValueEnum;
use kube::ResourceExt;

use super::Target;
use crate::{
    api::{HasConditions, Lifecycle, ModelVersion, parents},
    cli::{
        manifests,
        registered::{Registered, ready},
        tools::{Output, print_json, print_table},
    },
    domain::{conditions::ConditionStatus, registry::ancestors},
};

/// How one version is shown.
#[derive(Clone, Copy, ValueEnum)]
pub enum Form {
    /// For people
    Text,
    /// The object, for programs
    Json,
    /// What `kubectl apply` makes the same of
    Yaml,
}

pub async fn list(model: Option<&str>, namespace: Option<&str>, output: Output) -> Result<(), String> {
    let registered = Registered::load(namespace).await?;
    let versions: Vec<&ModelVersion> = match model {
        Some(model) => registered.known(model)?,
        None => registered.versions().collect(),
    };
    match output {
        Output::Json => print_json(&versions)?,
        Output::Name => versions.iter().for_each(|version| println!("{}", version.name_any())),
        Output::Table => {
            let head = ["MODEL", "VERSION", "LIFECYCLE", "NODES", "STATE", "MADE OF", "PARENT", "DEPLOYED", "TAGS"];
            let rows = [head.map(str::to_owned).to_vec()].into_iter().chain(versions.into_iter().map(row));
            print_table(&rows.collect::<Vec<_>>());
        }
    }
    Ok(())
}

fn row(version: &ModelVersion) -> Vec<String> {
    let (spec, status) = (&version.spec, version.status.as_ref());
    let or_none = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".into());
    let has_nodes = spec.source.ollama.is_some();
    vec![
        spec.model.clone(),
        spec.version.clone(),
        lifecycle(version),
        or_none(status.filter(|_| has_nodes).map(|status| status.ready_nodes.to_string())),
        ready(version).map_or_else(|| "Unknown".into(), |condition| condition.reason.clone()),
        version.tag(),
        or_none(spec.parent.clone()),
        or_none(version.stage().deployed_at.map(|at| at.strftime("%Y-%m-%d %H:%M").to_string())),
        or_none(Some(spec.tags.join(","))),
    ]
}

/// Where it is in its life, in words.
pub fn lifecycle(version: &ModelVersion) -> String {
    let stage = version.stage();
    match stage.lifecycle {
        Lifecycle::Canary => format!("Canary ({} %)", stage.weight),
        Lifecycle::Deployed if stage.weight < 100 => format!("Deployed ({} %)", stage.weight),
        other => format!("{other:?}"),
    }
}

pub async fn show(target: &Target, output: Form) -> Result<(), String> {
    let registered = Registered::load(target.namespace.as_deref()).await?;
    let version = registered.version(&target.model, &target.version)?;
    match output {
        Form::Json => print_json(version),
        Form::Yaml => manifests::print(vec![manifests::plain(version, None)?], manifests::Format::Yaml),
        Form::Text => {
            print!("{}", describe(version, &registered)?);
            Ok(())
        }
    }
}

fn describe(version: &ModelVersion, registered: &Registered) -> Result<String, String> {
    let (spec, status) = (&version.spec, version.status.clone().unwrap_or_default());
    let mut lines = vec![format!("{} {}: {}", spec.model, spec.version, lifecycle(version))];
    let mut line = |name: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("  {name:<14} {text}"));
        }
    };
    line("object", version.name_any());
    line("made of", version.tag());
    line("digest", status.digest.clone().unwrap_or_default());
    line("nodes", status.alias.as_ref().map(|_| status.ready_nodes.to_string()).unwrap_or_default());
    line("deployed", status.deployed_at.map(|at| at.to_string()).unwrap_or_default());
    let parents = parents(&spec.model, registered.versions());
    let line_of_parents = ancestors(&spec.version, &parents).join(" from ");
    line(
        "made from",
        if line_of_parents.is_empty() { spec.parent.clone().unwrap_or_default() } else { line_of_parents },
    );
    line("tags", spec.tags.join(", "));
    if !spec.parameters.is_empty() {
        line("parameters", serde_json::to_string(&spec.parameters).map_err(|error| error.to_string())?);
    }
    for (name, text) in [
        ("system prompt", spec.system_prompt.as_ref().map(|prompt| format!("({}) {}", prompt.version, prompt.text))),
        ("changelog", Some(spec.changelog.clone())),
    ] {
        line(name, text.unwrap_or_default().trim_end().replace('\n', &format!("\n{:17}", "")));
    }
    for condition in version.conditions().iter().filter(|condition| condition.status != ConditionStatus::Unknown) {
        line(&condition.type_, format!("{:?}, {}: {}", condition.status, condition.reason, condition.message));
    }
    Ok(lines.join("\n") + "\n")
}
