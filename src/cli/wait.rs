//! `drover wait …`

use std::{collections::BTreeMap, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use kube::ResourceExt;
use serde::Serialize;
use tokio::{signal, time::Instant};

use super::{DONE, INTERRUPTED, LATE, client};
use crate::{
    api::{HasConditions, ModelPull},
    cluster::{Follower, Objects, Sight},
    domain::{
        conditions::{ConditionStatus, READY},
        duration::HumanDuration,
        wait::Standing,
    },
};

#[derive(Subcommand)]
pub enum Wait {
    /// Wait until required models are on their nodes
    #[command(
        after_help = "Without names it waits for every ModelPull with `required: true`. Progress goes to stderr, and at the \
            end one line of JSON to stdout:\n  \
            {\"status\": \"ready\"|\"timeout\", \"models\": [{\"name\", \"model\", \"ready\", …}], \"seconds\": 0.1}\n\n\
            Exit codes: 0 all there, none required, or --warn-only; 1 Kubernetes can't be asked; 2 not there in time \
            (also: wrong flags); 130 interrupted.\n\n\
            Example:\n  drover wait models -n ml --timeout 10m\n  drover wait models --warn-only llama embedder"
    )]
    Models(Models),
}

#[derive(Args)]
pub struct Models {
    /// Names of ModelPulls; without any, those with `required: true`
    names: Vec<String>,
    /// Their namespace; without one, the kubeconfig's
    #[arg(short, long, conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// Look in every namespace
    #[arg(short = 'A', long, conflicts_with = "names")]
    all_namespaces: bool,
    /// Only ModelPulls with these labels, such as `app=bot,tier!=test`
    #[arg(short = 'l', long, conflicts_with = "names")]
    selector: Option<String>,
    /// How long to wait
    #[arg(long, default_value = "5m", value_parser = duration)]
    timeout: Duration,
    /// Exit with 0 also when models did not arrive in time
    #[arg(long)]
    warn_only: bool,
    /// What to print on stdout at the end
    #[arg(short, long, value_enum, default_value_t = Output::Json)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One line of JSON
    Json,
    /// Nothing
    None,
}

/// What a machine reads at the end.
#[derive(Serialize)]
struct Outcome<'a> {
    status: &'static str,
    models: Vec<&'a Standing>,
    seconds: f64,
}

type Standings = BTreeMap<(String, String), Standing>;

/// What a wait has come to.
#[derive(Default)]
struct Progress {
    /// As it is.
    now: Standings,
    /// As people heard of it.
    told: Standings,
}

/// A duration as flags have it.
///
/// # Errors
/// What is wrong with it.
pub fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<HumanDuration>().map(|duration| duration.0).map_err(|error| error.to_string())
}

pub async fn run(command: Wait) -> Result<u8, String> {
    let Wait::Models(options) = command;
    let began = Instant::now();
    let mut progress = Progress::default();
    let awaited = tokio::select! {
        awaited = tokio::time::timeout(options.timeout, arrival(&options, &mut progress)) => awaited,
        _ = signal::ctrl_c() => {
            eprintln!("drover: interrupted");
            return Ok(INTERRUPTED);
        }
    };
    let in_time = match awaited {
        Ok(arrived) => arrived.map(|()| true)?,
        Err(_) => false,
    };
    if !in_time {
        let limit = HumanDuration(options.timeout);
        let late = progress.now.values().filter(|standing| !standing.ready);
        late.for_each(|standing| eprintln!("drover: warning: not there after {limit}: {}", standing.line()));
        if progress.now.is_empty() {
            eprintln!("drover: warning: Kubernetes has not answered within {limit}");
        }
    }
    if options.output == Output::Json {
        let status = if in_time { "ready" } else { "timeout" };
        let outcome =
            Outcome { status, models: progress.now.values().collect(), seconds: began.elapsed().as_secs_f64() };
        println!("{}", serde_json::to_string(&outcome).map_err(|error| error.to_string())?);
    }
    Ok(if in_time || options.warn_only { DONE } else { LATE })
}

/// Waits until everything is there.
async fn arrival(options: &Models, progress: &mut Progress) -> Result<(), String> {
    let client = client::connect().await?;
    let own = options.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let namespace = (!options.all_namespaces).then_some(own.as_str());
    let mut follower = Follower::<ModelPull>::new(&client, namespace, options.selector.as_deref());
    loop {
        match follower.next().await? {
            Sight::Objects(objects) => progress.now = standings(options, &own, objects),
            Sight::Broken(why) => {
                eprintln!("drover: {why}; trying again");
                continue;
            }
        }
        let done = progress.now.values().all(|standing| standing.ready);
        if progress.now.is_empty() {
            let place = namespace.map_or("any namespace".into(), |name| format!("namespace {name}"));
            eprintln!("drover: no ModelPull in {place} is required");
        }
        // Who finds everything in place is told so by the end alone.
        if !(done && progress.told.is_empty()) {
            progress.tell();
        }
        if done {
            return Ok(());
        }
    }
}

impl Progress {
    /// Says what is new.
    fn tell(&mut self) {
        let Self { now, told } = self;
        told.retain(|key, _| {
            let stays = now.contains_key(key);
            if !stays {
                eprintln!("{}: no longer required", key.1);
            }
            stays
        });
        for (key, standing) in now {
            if told.get(key).is_none_or(|told| standing.is_news_after(told)) {
                eprintln!("{}", standing.line());
                told.insert(key.clone(), standing.clone());
            }
        }
    }
}

/// What is waited for, and how it stands.
fn standings(options: &Models, namespace: &str, objects: &Objects<ModelPull>) -> Standings {
    let staying = objects.iter().filter(|(_, pull)| pull.metadata.deletion_timestamp.is_none());
    if options.names.is_empty() {
        return staying
            .filter(|(_, pull)| pull.spec.required)
            .map(|(key, pull)| (key.clone(), standing(pull)))
            .collect();
    }
    let named = options.names.iter().map(|name| {
        let key = (namespace.to_owned(), name.clone());
        let found = staying.clone().find(|(found, _)| **found == key);
        let standing = found.map_or_else(|| Standing::absent(namespace, name), |(_, pull)| standing(pull));
        (key, standing)
    });
    named.collect()
}

fn standing(pull: &ModelPull) -> Standing {
    let (namespace, name) = (pull.namespace().unwrap_or_default(), pull.name_any());
    let current = |generation: Option<i64>| generation.is_some() && generation == pull.metadata.generation;
    let status = pull.status.as_ref().filter(|status| current(status.observed_generation));
    let ready = pull.conditions().iter().find(|condition| condition.type_ == READY);
    let (Some(status), Some(ready)) = (status, ready.filter(|ready| current(ready.observed_generation))) else {
        return Standing::unanswered(&namespace, &name, &pull.spec.model);
    };
    Standing {
        namespace,
        name,
        model: pull.spec.model.clone(),
        ready: ready.status == ConditionStatus::True,
        ready_nodes: status.ready_nodes,
        desired_nodes: status.desired_nodes,
        digest: status.resolved.as_ref().map(|resolved| resolved.digest.clone()),
        percent: status.progress,
        reason: ready.reason.clone(),
        message: ready.message.clone(),
    }
}
