//! `drover workers list|set-model|reset` and `drover models --tags`

use clap::{Subcommand, ValueEnum};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    catalog::rows,
    names::{Output, Place, Sight},
    tools::{print_json, print_table},
};
use crate::{
    api::{ANNOTATION_MODEL, ANNOTATION_POLICY, Worker},
    cluster,
    domain::directory::{Directory, Policy},
};

#[derive(Subcommand)]
pub enum Workers {
    /// List workers: what each asks for, what that comes to, and why
    List(Place),
    /// Have a worker ask for another model than its spec says
    #[command(
        after_help = "Examples:\n  drover workers set-model docs qwen2.5-coder:7b\n  drover workers set-model docs auto:vision --policy Static\n\n\
            `drover workers reset` takes it back."
    )]
    SetModel {
        /// The Worker
        worker: String,
        /// A reference: auto:TAG, profile/NAME, deployment/NAME, chain/NAME, provider/NAME/MODEL or a model
        model: String,
        /// When the model may change; without it, as the spec says
        #[arg(long, value_enum)]
        policy: Option<When>,
        #[command(flatten)]
        place: Place,
    },
    /// Have a worker ask for what its spec says
    Reset {
        /// The Worker
        worker: String,
        #[command(flatten)]
        place: Place,
    },
}

/// When a worker's model may change.
#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum When {
    /// When somebody sets another one
    Static,
    /// Whenever another one is the better choice
    Dynamic,
}

/// Does what was asked; an error ends the process with 1.
pub async fn run(command: Workers) -> Result<(), String> {
    match command {
        Workers::List(place) => list(&place).await,
        Workers::SetModel { worker, model, policy, place } => set_model(&worker, &model, policy, &place).await,
        Workers::Reset { worker, place } => {
            let (sight, _) = find(&worker, &place).await?;
            annotate(&sight, &worker, None, None).await?;
            println!("{worker}: asks for what its spec says");
            Ok(())
        }
    }
}

async fn list(place: &Place) -> Result<(), String> {
    let sight = Sight::of(place.namespace.as_deref()).await?;
    let directory = sight.compiled().directory;
    let workers: Vec<Value> = sight.objects.workers.iter().map(|object| described(&directory, object)).collect();
    if matches!(place.output, Output::Json) {
        return print_json(&workers);
    }
    let text = |worker: &Value, field: &str| worker[field].as_str().unwrap_or("-").to_owned();
    let cells = workers.iter().map(|worker| {
        ["name", "default", "override", "policy", "resolvedModel", "reason"].map(|field| text(worker, field))
    });
    print_table(&rows(["NAME", "DEFAULT", "OVERRIDE", "POLICY", "MODEL", "REASON"], cells));
    Ok(())
}

fn described(directory: &Directory<Value>, object: &Worker) -> Value {
    let (declared, name) = (object.declared(), object.name_any());
    let worker = directory.workers.get(&name).cloned().unwrap_or_default();
    let resolved = worker.fault.is_none().then_some(&worker.resolution.resolved_model);
    let reason = worker.fault.as_ref().unwrap_or(&worker.resolution.reason);
    let fingerprint = object.status.as_ref().map(|status| &status.fingerprint);
    json!({
        "name": name, "default": declared.model, "override": declared.set, "policy": declared.policy,
        "resolvedModel": resolved, "reason": reason, "fingerprint": fingerprint,
    })
}

async fn find(worker: &str, place: &Place) -> Result<(Sight, std::sync::Arc<Worker>), String> {
    let sight = Sight::of(place.namespace.as_deref()).await?;
    let found = sight.objects.workers.iter().find(|object| object.name_any() == worker).cloned();
    let found = found.ok_or_else(|| format!("no Worker {worker} in namespace {}", sight.namespace))?;
    Ok((sight, found))
}

async fn set_model(worker: &str, model: &str, policy: Option<When>, place: &Place) -> Result<(), String> {
    let (sight, object) = find(worker, place).await?;
    let directory = sight.compiled().directory;
    let pointer = directory.pointer(model).map_err(|unknown| unknown.to_string())?;
    let ways = directory.ways(&pointer, object.declared().floor, |_| None).map_err(|none| none.to_string())?;
    let policy = policy.map(|policy| match policy {
        When::Static => Policy::Static,
        When::Dynamic => Policy::Dynamic,
    });
    let said = policy.map(|policy| format!("{policy:?}"));
    annotate(&sight, worker, Some(model), said.as_deref()).await?;
    let now = ways.first().map(|way| way.reason()).unwrap_or_default();
    println!("{worker}: asks for {model} ({now})");
    Ok(())
}

async fn annotate(sight: &Sight, worker: &str, model: Option<&str>, policy: Option<&str>) -> Result<(), String> {
    let api = cluster::api::<Worker>(&sight.client, Some(&sight.namespace));
    // null takes an annotation away.
    let annotations = json!({ ANNOTATION_MODEL: model, ANNOTATION_POLICY: policy });
    let written = cluster::merge(&api, worker, &json!({ "metadata": { "annotations": annotations } })).await;
    written.map(drop).map_err(|error| format!("{worker}: {error}"))
}

/// `drover models --tags`
pub async fn models(namespace: Option<&str>) -> Result<(), String> {
    let directory = Sight::of(namespace).await?.compiled().directory;
    let defaults = |name: &str| {
        let own = directory.defaults.iter().filter(|(_, model)| directory.model(model) == directory.model(name));
        own.map(|(word, _)| format!("auto:{word}")).collect::<Vec<_>>().join(" ")
    };
    let cells = directory.models.iter().map(|model| {
        let size = model.parameters.map_or_else(|| "-".into(), |size| size.to_string());
        let state = model.absence.as_ref().map_or("yes", |absence| absence.why());
        [
            model.name.clone(),
            size,
            model.capabilities.to_string(),
            model.tags.join(", "),
            defaults(&model.name),
            state.to_owned(),
        ]
    });
    print_table(&rows(["MODEL", "SIZE", "CAPABILITIES", "TAGS", "DEFAULT OF", "AVAILABLE"], cells));
    Ok(())
}
