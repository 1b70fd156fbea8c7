//! `drover deploy`

use clap::Args;
use kube::{Resource, ResourceExt, api::ListParams};
use serde_json::{Value, json};

use super::{
    manifests::{self, Format},
    registered::{Registered, model, version},
    versions::{Making, Outcome, register, taken},
};
use crate::{
    api::{ModelDeployment, ModelPull, ModelVersion},
    cluster,
    domain::{duration::HumanDuration, model_name::ModelName, version::is_older},
};

#[derive(Args)]
pub struct Deploy {
    /// The model
    #[arg(value_parser = model)]
    model: String,
    /// The version that shall serve
    #[arg(value_parser = version)]
    version: String,
    #[command(flatten)]
    making: Making,
    /// All requests at once, without a canary
    #[arg(long, conflicts_with_all = ["steps", "require_approval"])]
    immediate: bool,
    /// The canary's steps before all requests: percent, and how long
    #[arg(long, value_name = "PERCENT:TIME,…", value_delimiter = ',', value_parser = step)]
    steps: Vec<(u8, HumanDuration)>,
    /// Each step is left only by `drover rollout promote`
    #[arg(long)]
    require_approval: bool,
    /// Ready nodes that must hold the version before it gets requests
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    min_nodes: Option<u32>,
    /// Its namespace; without one, the kubeconfig's
    #[arg(short, long)]
    namespace: Option<String>,
    /// Change nothing: print the manifests
    #[arg(long)]
    dry_run: bool,
    /// How to print the manifests
    #[arg(short, long, value_enum, default_value_t = Format::Yaml, requires = "dry_run")]
    output: Format,
}

/// Does what was asked; an error ends the process with 1.
pub async fn run(command: Deploy) -> Result<(), String> {
    let registered = Registered::load(command.namespace.as_deref()).await?;
    let version = command.wanted_version(&registered)?;
    let deployment = registered.deployment(&command.model);
    let manifest = command.manifest(deployment)?;
    if command.dry_run {
        let namespace = command.namespace.as_deref();
        let version = version.map(|version| manifests::plain(&version, namespace)).transpose()?;
        let manifest = manifests::plain(&manifest, namespace)?;
        return manifests::print(version.into_iter().chain([manifest]).collect(), command.output);
    }
    if let Some(version) = &version {
        command.register(&registered, version).await?;
    }
    let after = command.deploy(&registered, deployment, manifest).await?;
    println!("next: {}", outlook(&after));
    let made_of = version.as_ref().or_else(|| registered.find(&command.model, &command.version));
    if let Some(tag) = made_of.and_then(|version| version.spec.source.ollama.as_ref()).map(|source| &source.tag) {
        hint_at_pull(&registered, tag).await?;
    }
    let namespace = command.namespace.as_ref().map(|namespace| format!(" -n {namespace}")).unwrap_or_default();
    println!("follow it by: drover rollout status {}{namespace}", after.name_any());
    Ok(())
}

impl Deploy {
    /// The version that is to be registered; `None` where it is registered and nothing else is asked for.
    fn wanted_version(&self, registered: &Registered) -> Result<Option<ModelVersion>, String> {
        let (model, version) = (&self.model, &self.version);
        let is_there = registered.find(model, version).is_some();
        if is_there && !self.making.has_source() {
            return Ok(None);
        }
        let mut object = self.making.object(model, version)?;
        if !is_there && object.spec.parent.is_none() {
            let serves = registered.rollout(model).and_then(|state| state.stable_version());
            object.spec.parent = serves.filter(|parent| is_older(parent, version)).map(str::to_owned);
        }
        Ok(Some(object))
    }

    async fn register(&self, registered: &Registered, version: &ModelVersion) -> Result<(), String> {
        match register(registered, version).await? {
            Outcome::Made => {
                println!("{} {} is registered as ModelVersion {}", self.model, self.version, version.name_any());
                Ok(())
            }
            Outcome::WasThere => Ok(()),
            // Who serves now isn't who served when it was registered: its parent is what it was then.
            Outcome::Differs(fields) if fields == ["parent"] && self.making.parent.is_none() => Ok(()),
            Outcome::Differs(fields) => Err(taken(&self.model, &self.version, &fields)),
        }
    }

    /// The fields of a deployment that are set.
    fn fields(&self) -> Value {
        let mut spec = json!({ "version": self.version });
        if let Some(count) = self.min_nodes {
            spec["placement"] = json!({ "minNodes": count });
        }
        if self.immediate {
            spec["strategy"] = json!({ "immediate": {}, "canary": null });
        } else if !self.steps.is_empty() || self.require_approval {
            let mut canary = json!({});
            if self.require_approval {
                canary["requireApproval"] = true.into();
            }
            if !self.steps.is_empty() {
                let steps =
                    self.steps.iter().map(|(weight, duration)| json!({ "weight": weight, "duration": duration }));
                canary["steps"] = steps.collect();
            }
            spec["strategy"] = json!({ "immediate": null, "canary": canary });
        }
        json!({ "spec": spec })
    }

    /// The deployment as it is to be.
    fn manifest(&self, present: Option<&ModelDeployment>) -> Result<Value, String> {
        let mut manifest = match present {
            Some(present) => manifests::plain(present, None)?,
            None => json!({
                "apiVersion": ModelDeployment::api_version(&()),
                "kind": ModelDeployment::kind(&()),
                "metadata": { "name": self.model },
                "spec": { "model": self.model },
            }),
        };
        json_patch::merge(&mut manifest, &self.fields());
        Ok(manifest)
    }

    /// Makes the deployment, or sets what is asked for.
    async fn deploy(
        &self,
        registered: &Registered,
        present: Option<&ModelDeployment>,
        manifest: Value,
    ) -> Result<ModelDeployment, String> {
        let api = cluster::api::<ModelDeployment>(&registered.client, Some(&registered.namespace));
        let fault = |error: kube::Error| format!("{}: {error}", self.model);
        let Some(present) = present else {
            let made: ModelDeployment = serde_json::from_value(manifest).map_err(|error| error.to_string())?;
            cluster::create(&api, &made).await.map_err(fault)?;
            println!("ModelDeployment {} is made: it asks for {}", made.name_any(), self.version);
            return Ok(made);
        };
        let after = cluster::merge(&api, &present.name_any(), &self.fields()).await.map_err(fault)?;
        let (name, before) = (present.name_any(), &present.spec.version);
        match after.spec == present.spec {
            true => println!("ModelDeployment {name} asks for {before} already: nothing is changed"),
            false => println!("ModelDeployment {name} asks for {} now; before, for {before}", self.version),
        }
        if let Some(manager) = other_manager(present) {
            println!("{manager} had set its version before: where its manifest is kept, change it there, too");
        }
        Ok(after)
    }
}

/// Who set `spec.version` before, unless it was this command.
fn other_manager(deployment: &ModelDeployment) -> Option<&str> {
    let owns = |fields: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry| {
        let fields = fields.fields_v1.as_ref().map(|fields| &fields.0);
        fields.is_some_and(|fields| fields.pointer("/f:spec/f:version").is_some())
    };
    let managers = deployment.managed_fields().iter().filter(owns).filter_map(|entry| entry.manager.as_deref());
    managers.into_iter().find(|manager| *manager != cluster::CLI)
}

/// What happens next with a deployment.
fn outlook(deployment: &ModelDeployment) -> String {
    let (spec, version) = (&deployment.spec, &deployment.spec.version);
    let state = deployment.status.clone().unwrap_or_default().rollout;
    let once = match spec.placement.min_nodes {
        1 => "once a node holds it".to_owned(),
        count => format!("once {count} nodes hold it"),
    };
    let was_live = state.history.iter().any(|entry| entry.release.version == *version);
    match (state.stable_version(), state.canary_version()) {
        (None, _) => format!("{version} serves all requests {once}"),
        (Some(stable), None) if stable == version => format!("{version} serves all requests already"),
        (Some(stable), Some(canary)) if stable == version => {
            format!("{canary} is called off, {version} has all requests")
        }
        (_, Some(canary)) if canary == version => format!("{version} is on trial already"),
        _ if state.rejected.as_ref().is_some_and(|rejected| rejected.version == *version) => {
            format!("{version} was taken back, so nothing before `drover rollout retry {}`", deployment.name_any())
        }
        (Some(stable), _) if was_live && is_older(version, stable) => {
            format!("{version} has all requests again, {once}")
        }
        _ if spec.paused => format!("nothing while spec.paused is true; then {version} is rolled out"),
        _ => format!("{version} {}", shares(deployment, &once)),
    }
}

fn shares(deployment: &ModelDeployment, once: &str) -> String {
    let Some(canary) = deployment.spec.strategy.steps() else {
        return format!("takes all requests {once}");
    };
    let approval = if canary.require_approval { " and on approval" } else { "" };
    let mut text = String::new();
    for (index, step) in canary.steps.iter().enumerate() {
        let when =
            if index == 0 { once.to_owned() } else { format!("after {}{approval}", canary.steps[index - 1].duration) };
        text.push_str(&format!("takes {} % of requests {when}, ", step.weight));
    }
    let last = canary.steps.last().map(|step| format!("after {}{approval}", step.duration)).unwrap_or_default();
    format!("{text}then all {last}")
}

/// Says so where nothing declared brings the model to nodes.
async fn hint_at_pull(registered: &Registered, tag: &str) -> Result<(), String> {
    let pulls = cluster::api::<ModelPull>(&registered.client, Some(&registered.namespace));
    let pulls = pulls.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
    if !pulls.iter().any(|pull| ModelName::same(&pull.spec.model, tag)) {
        println!("no ModelPull brings {tag} to nodes: create one, unless they hold it already");
    }
    Ok(())
}

fn step(text: &str) -> Result<(u8, HumanDuration), String> {
    let form =
        || format!("{text:?} is no step: write a percentage from 1 to 99 and how long it is held, such as 20:24h");
    let (weight, duration) = text.split_once(':').ok_or_else(form)?;
    let weight = weight.parse().ok().filter(|weight| (1..=99).contains(weight)).ok_or_else(form)?;
    Ok((weight, duration.parse().map_err(|_| form())?))
}
