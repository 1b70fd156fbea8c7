//! `drover registry import`, and how versions that were written down are registered again.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use kube::ResourceExt;

use super::read;
use crate::{
    api::{ModelVersion, ModelVersionSpec},
    cli::registered::Registered,
    cluster,
    domain::{
        registry::{Fate, ModelRecord, Present, VersionRecord, fate},
        version,
    },
};

#[derive(Args)]
pub struct Import {
    /// What `drover registry export` wrote; - for standard input
    file: PathBuf,
    /// The namespace; without one, the kubeconfig's
    #[arg(short, long)]
    namespace: Option<String>,
    /// Register nothing: say what would be
    #[arg(long)]
    dry_run: bool,
}

pub async fn import(command: &Import) -> Result<(), String> {
    let book = read(&command.file)?;
    let registered = Registered::load(command.namespace.as_deref()).await?;
    let mut told = Told::default();
    for (model, record) in &book.models {
        told.add(bring_back(&registered, model, record, command.dry_run).await?);
        let serves = registered.rollout(model).and_then(|state| state.stable_version());
        if let Some(current) = record.current.as_deref().filter(|current| serves != Some(current)) {
            println!("{model}: {current} served there; `drover deploy {model} {current}` has it serve here");
        }
    }
    told.print(if command.dry_run { "to be registered" } else { "registered" })
}

/// What became of versions that were written down.
#[derive(Default)]
pub struct Told {
    made: usize,
    same: usize,
    faults: Vec<String>,
}

impl Told {
    /// Counts others, too.
    pub fn add(&mut self, other: Self) {
        self.made += other.made;
        self.same += other.same;
        self.faults.extend(other.faults);
    }

    /// Something that could not be done.
    pub fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// Says it.
    ///
    /// # Errors
    /// What could not be done.
    pub fn print(self, made: &str) -> Result<(), String> {
        println!("{} {made}, {} there already", self.made, self.same);
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults.join("\n")) }
    }
}

/// Registers the versions of a model that are missing, parents first.
///
/// # Errors
/// Whatever the API says.
pub async fn bring_back(
    registered: &Registered,
    model: &str,
    record: &ModelRecord,
    dry_run: bool,
) -> Result<Told, String> {
    let mut told = Told::default();
    let mut versions: Vec<_> = record.versions.iter().collect();
    versions.sort_by(|(a, _), (b, _)| version::compare(a, b).unwrap_or_else(|| a.cmp(b)));
    for (version, record) in versions {
        match settle(registered, model, version, record, dry_run).await? {
            Fate::Make(_) => told.made += 1,
            Fate::Same => told.same += 1,
            Fate::Differs(fields) => told.fault(format!(
                "{model} {version}: what is registered has another {}; it is left as it is",
                fields.join(", ")
            )),
            Fate::Unknown => told.fault(format!("{model} {version}: it is missing, and what it was wasn't kept")),
        }
    }
    Ok(told)
}

async fn settle(
    registered: &Registered,
    model: &str,
    version: &str,
    record: &VersionRecord,
    dry_run: bool,
) -> Result<Fate, String> {
    let label = |error: &dyn std::fmt::Display| format!("{model} {version}: {error}");
    let present = registered.find(model, version).map(present).transpose()?;
    let found = fate(record, present.as_ref());
    let Fate::Make(spec) = &found else { return Ok(found) };
    let spec: ModelVersionSpec = serde_json::from_value(spec.clone()).map_err(|error| label(&error))?;
    if dry_run {
        return Ok(found);
    }
    let api = cluster::api::<ModelVersion>(&registered.client, Some(&registered.namespace));
    let object = ModelVersion::new(&record.name, spec);
    match cluster::create(&api, &object).await {
        Ok(()) => {
            println!("{model} {version} is registered as ModelVersion {}", object.name_any());
            Ok(found)
        }
        // Somebody else was faster, or has that name.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let there = api.get_opt(&record.name).await.map_err(|error| label(&error))?;
            let there = there.ok_or_else(|| label(&"it was deleted meanwhile; try again"))?;
            Ok(fate(record, Some(&self::present(&there)?)))
        }
        Err(error) => Err(label(&error)),
    }
}

fn present(version: &ModelVersion) -> Result<Present, String> {
    let spec = serde_json::to_value(&version.spec).map_err(|error| error.to_string())?;
    Ok(Present { spec, digest: version.status.as_ref().and_then(|status| status.digest.clone()) })
}

/// Models of a file, or the one that is asked for.
///
/// # Errors
/// When it isn't there.
pub fn chosen<T>(
    mut models: BTreeMap<String, T>,
    model: Option<&str>,
    place: &str,
) -> Result<BTreeMap<String, T>, String> {
    let Some(model) = model else { return Ok(models) };
    let found = models.remove_entry(model);
    found.map(|found| [found].into()).ok_or_else(|| format!("{place} has nothing of {model}"))
}
