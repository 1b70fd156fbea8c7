//! `drover catalog show|lookup|set-default`

use std::collections::BTreeMap;

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    names::{Output, Place, Sight},
    tools::{print_json, print_table},
};
use crate::{
    api::{ModelCatalog, ModelCatalogSpec},
    cluster,
    domain::model_db::{Capability, Catalogue, Known, check_word},
    routing_table::directory::catalogue,
};

#[derive(Subcommand)]
pub enum Catalog {
    /// Show the default models, and the entries that objects bring; what is built in is not listed
    Show(Place),
    /// Say what is known of a model by its name: family, context, capabilities, size
    #[command(after_help = "Example:\n  drover catalog lookup qwen2.5-coder:7b")]
    Lookup {
        /// The model as nodes name it
        model: String,
        #[command(flatten)]
        place: Place,
    },
    /// Set the default model of a capability, which auto:CAPABILITY stands for
    #[command(after_help = "Example:\n  drover catalog set-default fast llama3.2:1b")]
    SetDefault {
        /// chat, code, vision, tools, embedding, thinking, json, or fast: the small model
        #[arg(value_parser = word)]
        capability: String,
        /// The model: a tag, deployment/NAME or provider/NAME/MODEL
        model: String,
        /// The ModelCatalog that says so; made if it isn't there
        #[arg(long, value_name = "NAME", default_value = "defaults")]
        catalog: String,
        #[command(flatten)]
        place: Place,
    },
}

fn word(text: &str) -> Result<String, String> {
    check_word(text).map(|()| text.to_owned())
}

/// Does what was asked; an error ends the process with 1.
pub async fn run(command: Catalog) -> Result<(), String> {
    match command {
        Catalog::Show(place) => show(&place).await,
        Catalog::Lookup { model, place } => lookup(&model, &place).await,
        Catalog::SetDefault { capability, model, catalog, place } => {
            set_default(&capability, &model, &catalog, place.namespace.as_deref()).await
        }
    }
}

async fn show(place: &Place) -> Result<(), String> {
    let sight = Sight::of(place.namespace.as_deref()).await?;
    let (all, faults) = catalogue(&sight.objects.catalogs, &sight.namespace);
    if matches!(place.output, Output::Json) {
        let entries: Vec<Value> =
            all.entries().iter().map(|(entry, options)| json!({ "entry": entry, "options": options })).collect();
        return print_json(&json!({ "defaults": all.defaults(), "entries": entries }));
    }
    print_table(&rows(
        ["CAPABILITY", "DEFAULT"],
        all.defaults().iter().map(|(word, model)| [word.clone(), model.clone()]),
    ));
    println!();
    let entries = all.entries().iter().map(|(entry, _)| {
        let known = of(&all, &entry.pattern);
        [entry.pattern.clone(), known.family, known.context_length.to_string(), known.capabilities.to_string()]
    });
    print_table(&rows(["PATTERN", "FAMILY", "CONTEXT", "CAPABILITIES"], entries));
    for conflict in faults.iter().flat_map(|(_, said)| said) {
        eprintln!("drover: {conflict}");
    }
    Ok(())
}

async fn lookup(model: &str, place: &Place) -> Result<(), String> {
    let sight = Sight::of(place.namespace.as_deref()).await?;
    let (all, _) = catalogue(&sight.objects.catalogs, &sight.namespace);
    let served = sight.compiled().directory;
    let known = served.model(model).map(|place| &served.models[place as usize]);
    let looked = of(&all, model);
    // What a node says of it counts more.
    let (capabilities, context) =
        known.map_or((looked.capabilities, looked.context_length), |known| (known.capabilities, known.context_length));
    let parameters = known.and_then(|known| known.parameters).or(looked.parameters);
    let size = parameters.map(|parameters| parameters.class());
    if matches!(place.output, Output::Json) {
        let capabilities: Vec<Capability> = capabilities.iter().collect();
        return print_json(&json!({
            "model": model, "family": looked.family, "contextLength": context, "maxOutputTokens": looked.max_output_tokens,
            "capabilities": capabilities, "parameters": parameters, "size": size, "options": looked.options,
            "tags": looked.tags, "pattern": looked.pattern,
        }));
    }
    let text = |value: Option<String>| value.unwrap_or_else(|| "not known".into());
    let options: Vec<String> = looked.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let family = Some(looked.family).filter(|family| !family.is_empty());
    let rows = [
        ["Model", model],
        ["Family", &text(family)],
        ["Context", &format!("{context} tokens")],
        ["Longest answer", &text(looked.max_output_tokens.map(|most| format!("{most} tokens")))],
        ["Capabilities", &capabilities.to_string()],
        ["Parameters", &text(parameters.map(|count| format!("{count} ({:?})", count.class()).to_lowercase()))],
        ["Options", &options.join(", ")],
        ["Tags", &looked.tags.join(", ")],
        ["Told by", &text(looked.pattern.map(|pattern| format!("entry {pattern}")))],
    ];
    print_table(&rows.map(|row| row.map(str::to_owned).to_vec()));
    Ok(())
}

fn of(all: &Catalogue<Value>, model: &str) -> Known<Value> {
    all.lookup(model)
}

async fn set_default(capability: &str, model: &str, catalog: &str, namespace: Option<&str>) -> Result<(), String> {
    let sight = Sight::of(namespace).await?;
    let served = sight.compiled().directory;
    let api = cluster::api::<ModelCatalog>(&sight.client, Some(&sight.namespace));
    let found = api.get_opt(catalog).await.map_err(|error| error.to_string())?;
    let written = match found {
        Some(_) => {
            cluster::merge(&api, catalog, &json!({ "spec": { "defaults": { capability: model } } })).await.map(drop)
        }
        None => {
            let defaults = BTreeMap::from([(capability.to_owned(), model.to_owned())]);
            let spec = ModelCatalogSpec { defaults, ..ModelCatalogSpec::default() };
            cluster::create(&api, &ModelCatalog::new(catalog, spec)).await
        }
    };
    written.map_err(|error| format!("ModelCatalog {catalog}: {error}"))?;
    println!("auto:{capability} stands for {model}");
    if served.model(model).is_none() {
        let near = served.unknown(model);
        eprintln!("drover: {near}; until there is, auto:{capability} is what else suits best");
    }
    let other = sight.objects.catalogs.iter().find(|other| {
        let other_model = other.spec.defaults.get(capability);
        other.metadata.name.as_deref() != Some(catalog) && other_model.is_some_and(|other| other != model)
    });
    if let Some(other) = other.and_then(|other| other.metadata.name.as_deref()) {
        eprintln!("drover: ModelCatalog {other} says something else; of the two, the older one counts");
    }
    Ok(())
}

pub(super) fn rows<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> Vec<Vec<String>> {
    [head.map(str::to_owned)].into_iter().chain(rows).map(Vec::from).collect()
}
