//! What a caller's model name stands for: pure.

use axum::http::StatusCode;
use serde_json::Value;

use super::{callers::Caller, failure::Failure, session::Message};
use crate::{
    domain::{
        alias::is_alias,
        directory::{self, Directory, Pointer, Policy, Worker, leaves},
        model_name::ModelName,
        reference::{Kind, Reference},
    },
    routing_table::{Deployment, Namespace, Target},
};

const DEPLOYMENT: &str = "deployment/";
const PROVIDER: &str = "provider/";
const LATEST: &str = ":latest";
/// How many names an error lists.
const LISTED: usize = 5;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Found<'a> {
    /// A deployment.
    Deployment(&'a str, &'a Deployment),
    /// A model as the nodes name it.
    Tag(&'a Target),
    /// A chain, a profile, a worker or `auto:TAG`: the directory knows what that comes to.
    Routed(Routed<'a>),
}

/// A name that the directory knows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routed<'a> {
    /// What has the name; nothing: `auto:`.
    kind: Option<Kind>,
    /// The name.
    name: &'a str,
    /// What it is in.
    pub directory: &'a Directory<Value>,
}

impl<'a> Routed<'a> {
    /// `chain`, `profile`, `worker` or `auto`, and the name.
    pub fn named(&self) -> (&'static str, &str) {
        (self.kind.map_or("auto", Kind::name), self.name)
    }

    /// Whether it is a worker.
    pub fn is_worker(&self) -> bool {
        self.kind == Some(Kind::Worker)
    }

    /// The worker that it is.
    pub fn worker(&self) -> Option<&'a Worker<Value>> {
        self.directory.workers.get(self.name).filter(|_| self.is_worker())
    }

    /// What is asked for: of a worker, what a message says instead of it.
    ///
    /// # Errors
    /// That there is no such model.
    pub fn asked(&self, message: &Message) -> Result<Pointer, Failure> {
        let Some(worker) = self.worker() else { return Ok(self.pointer()) };
        let resolution = &worker.resolution;
        let own = || resolution.metadata.get("override").or(resolution.metadata.get("default")).map(String::as_str);
        let other = match message.policy.filter(|policy| *policy != resolution.policy) {
            // What it would come to now, and what it came to before.
            Some(Policy::Dynamic) => own(),
            Some(Policy::Static) => Some(resolution.resolved_model.as_str()).filter(|model| !model.is_empty()),
            None => None,
        };
        let Some(reference) = message.model.as_deref().or(other) else { return Ok(self.pointer()) };
        self.directory
            .pointer(reference)
            .map_err(|unknown| Failure::new(StatusCode::NOT_FOUND, "model_not_found", unknown.to_string()))
    }

    /// What the directory has under that name.
    pub fn pointer(&self) -> Pointer {
        let name = self.name.to_owned();
        match self.kind {
            None | Some(Kind::Deployment) => Pointer::Auto(name),
            Some(Kind::Chain) => Pointer::Chain(name),
            Some(Kind::Profile) => Pointer::Profile(name),
            Some(Kind::Worker) => Pointer::Worker(name),
        }
    }

    /// Whether a caller may use it: by its name, or because all that it comes to may be used by name.
    fn is_for(&self, fit: impl Fn(&str) -> bool) -> bool {
        let (kind, name) = self.named();
        let by_name = match self.kind {
            None => fit(&format!("auto:{name}")),
            Some(_) => fit(name) || fit(&format!("{kind}/{name}")),
        };
        let by_model = |name: &str| fit(name) || name.strip_prefix(DEPLOYMENT).is_some_and(&fit);
        let models = || self.directory.reach(&self.pointer());
        by_name
            || Some(models())
                .filter(|models| !models.is_empty())
                .is_some_and(|models| models.iter().all(|model| by_model(&model.name)))
    }

    /// Whether a failed check of an answer has another step answer.
    fn checks_schema(&self) -> bool {
        let chain = match self.kind {
            Some(Kind::Chain) => Some(self.name),
            Some(Kind::Worker) => {
                match self.directory.workers.get(self.name).and_then(|worker| worker.pointer.as_ref()) {
                    Some(Pointer::Chain(chain)) => Some(chain.as_str()),
                    _ => None,
                }
            }
            _ => None,
        };
        let chain = chain.and_then(|chain| self.directory.chains.get(chain));
        chain.is_some_and(|chain| chain.steps.iter().any(|step| leaves(&step.on, directory::Failure::SchemaFailure)))
    }
}

impl Found<'_> {
    /// Whether a caller may use it.
    fn is_for(&self, caller: &Caller) -> bool {
        caller.patterns().is_none_or(|patterns| match self {
            Self::Deployment(name, _) => patterns.fit(name) || patterns.fit(&format!("{DEPLOYMENT}{name}")),
            Self::Tag(target) => patterns.fit(&target.tag),
            Self::Routed(routed) => routed.is_for(|name| patterns.fit(name)),
        })
    }

    /// The name that the directory knows, if it is one.
    pub fn routed(&self) -> Option<&Routed<'_>> {
        match self {
            Self::Routed(routed) => Some(routed),
            Self::Deployment(..) | Self::Tag(_) => None,
        }
    }

    /// Whether answers are checked by the schemas of their requests, where those don't say.
    pub fn checks_schema(&self) -> bool {
        match self {
            Self::Deployment(_, deployment) => deployment.schema_check,
            Self::Tag(_) => false,
            Self::Routed(routed) => routed.checks_schema(),
        }
    }

    /// The request header that names a session, where a deployment says so.
    pub fn sticky_header(&self) -> Option<&str> {
        match self {
            Self::Deployment(_, deployment) => deployment.sticky_header.as_deref(),
            Self::Tag(_) | Self::Routed(_) => None,
        }
    }
}

/// Finds what a reference stands for: `deployment/NAME`, `chain/NAME`, `profile/NAME`, `worker/NAME`, `auto:TAG` and
/// `provider/NAME/MODEL`; or a bare name, first among objects of those kinds, then among the nodes' models, then among
/// built-in profiles. As many clients add `:latest` to a bare name, a deployment is found by that, too, unless a model has the name.
///
/// # Errors
/// 404 that says what was looked for and what there is; 403 for what the caller may not use; 503 for a provider that can't
/// be used now.
pub fn resolve<'a>(namespace: &'a Namespace, name: &str, caller: &Caller) -> Result<Found<'a>, Failure> {
    let found = match name.strip_prefix(PROVIDER) {
        Some(reference) => Found::Tag(offered(namespace, name, reference, caller)?),
        None => find(namespace, name).ok_or_else(|| unknown(namespace, name, caller))?,
    };
    if found.is_for(caller) { Ok(found) } else { Err(caller.not_allowed(name)) }
}

fn find<'a>(namespace: &'a Namespace, name: &str) -> Option<Found<'a>> {
    let routed = |kind, name| routed(&namespace.directory, kind, name).map(Found::Routed);
    match Reference::parse(name) {
        Reference::Auto(tag) => routed(None, tag),
        Reference::Object(kind @ (Kind::Chain | Kind::Profile | Kind::Worker), name) => routed(Some(kind), name),
        Reference::Bare(bare) => {
            let owner = namespace.directory.owner(bare).filter(|kind| *kind != Kind::Deployment);
            let owned = owner.and_then(|kind| routed(Some(kind), bare));
            let found = owned.or_else(|| find_served(namespace, name));
            found.or_else(|| {
                [Kind::Chain, Kind::Profile, Kind::Worker].into_iter().find_map(|kind| routed(Some(kind), bare))
            })
        }
        Reference::Object(Kind::Deployment, _) | Reference::Provider { .. } => find_served(namespace, name),
    }
}

/// What the directory has under a name of this kind; with `:latest`, too.
fn routed<'a>(directory: &'a Directory<Value>, kind: Option<Kind>, name: &str) -> Option<Routed<'a>> {
    let key = |name: &str| match kind {
        None => directory.autos.get_key_value(name).map(|(name, _)| name),
        Some(Kind::Chain) => directory.chains.get_key_value(name).map(|(name, _)| name),
        Some(Kind::Profile) => directory.profiles.get_key_value(name).map(|(name, _)| name),
        Some(Kind::Worker) => directory.workers.get_key_value(name).map(|(name, _)| name),
        Some(Kind::Deployment) => None,
    };
    let found = key(name).or_else(|| key(name.strip_suffix(LATEST)?));
    found.map(|name| Routed { kind, name, directory })
}

/// Finds a deployment, or a model as nodes name it. As many clients add `:latest` to a bare name, a deployment is found by
/// that, too, unless a model has the name.
fn find_served<'a>(namespace: &'a Namespace, name: &str) -> Option<Found<'a>> {
    let short = name.strip_prefix(DEPLOYMENT);
    if let Some((name, deployment)) = namespace.deployments.get_key_value(short.unwrap_or(name)) {
        return Some(Found::Deployment(name, deployment));
    }
    if let Some(target) = plain(namespace, name).filter(|_| short.is_none()) {
        return Some(Found::Tag(target));
    }
    let bare = short.unwrap_or(name).strip_suffix(LATEST);
    let deployment = bare.and_then(|bare| namespace.deployments.get_key_value(bare));
    deployment.map(|(name, deployment)| Found::Deployment(name, deployment))
}

/// A provider's model. A client that adds `:latest` to every name gets it, too.
fn offered<'a>(namespace: &'a Namespace, name: &str, reference: &str, caller: &Caller) -> Result<&'a Target, Failure> {
    let (provider, model) = reference.split_once('/').unwrap_or((reference, ""));
    let found = namespace.providers.get(provider);
    let named = found.and_then(|found| {
        let bare = || model.strip_suffix(LATEST).and_then(|bare| found.models.get(bare));
        found.models.get(model).or_else(bare)
    });
    if let Some(target) = named {
        return Ok(target);
    }
    if let Some(fault) = found.and_then(|found| found.fault.as_ref()) {
        let message = format!("provider {provider} can't be used: {fault}");
        return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "provider_not_usable", message));
    }
    let why = if found.is_some() { "the provider doesn't offer it" } else { "no such provider" };
    let there = some_of(of_providers(namespace, caller).map(|target| target.tag.as_str()));
    let message = format!("model {name:?} not found: {why} (write provider/NAME/MODEL); {there}");
    Err(Failure::new(StatusCode::NOT_FOUND, "model_not_found", message))
}

/// The models of providers that a caller can call.
fn of_providers<'a>(namespace: &'a Namespace, caller: &'a Caller) -> impl Iterator<Item = &'a Target> {
    let offered = namespace.providers.values().flat_map(|provider| provider.models.values());
    offered.filter(|target| Found::Tag(target).is_for(caller))
}

fn plain<'a>(namespace: &'a Namespace, name: &str) -> Option<&'a Target> {
    let full = name.parse::<ModelName>().ok()?.to_string().to_ascii_lowercase();
    namespace.tags.get(&full).filter(|target| !is_hidden(target))
}

/// The names that a caller can call: deployments, then tags that no deployment's name covers, then models of providers.
pub fn callable<'a>(namespace: &'a Namespace, caller: &'a Caller) -> impl Iterator<Item = (&'a str, &'a Target)> {
    let deployments = namespace.deployments.iter().map(|(name, deployment)| Found::Deployment(name, deployment));
    let tags = namespace.tags.values().filter(|target| !is_hidden(target));
    let tags = tags.filter(|target| !namespace.deployments.contains_key(&target.tag)).map(Found::Tag);
    let all = deployments.chain(tags).filter(|found| found.is_for(caller)).filter_map(|found| match found {
        Found::Deployment(name, deployment) => Some((name, &deployment.stable)),
        Found::Tag(target) => Some((target.tag.as_str(), target)),
        Found::Routed(_) => None,
    });
    all.chain(of_providers(namespace, caller).map(|target| (target.tag.as_str(), target)))
}

fn is_hidden(target: &Target) -> bool {
    is_alias(&target.model.to_ascii_lowercase())
}

fn unknown(namespace: &Namespace, name: &str, caller: &Caller) -> Failure {
    let kinds = match Reference::parse(name) {
        Reference::Auto(_) => "no default and no tag of that name".into(),
        Reference::Object(kind, _) => format!("no such {kind}"),
        Reference::Provider { .. } | Reference::Bare(_) => "no deployment and no model of that name".into(),
    };
    let there = some_of(callable(namespace, caller).map(|(name, _)| name));
    // Who may use some models only isn't told of others.
    let near = if caller.patterns().is_none() { namespace.directory.unknown(name).nearest } else { Vec::new() };
    let hint = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) };
    Failure::new(StatusCode::NOT_FOUND, "model_not_found", format!("model {name:?} not found: {kinds}; {there}{hint}"))
}

/// What there is, or some of it.
fn some_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    match (names.is_empty(), more) {
        (true, _) => "nothing is ready to be called".into(),
        (_, 0) => format!("there is {}", names.join(", ")),
        (..) => format!("there is {} and {more} more", names.join(", ")),
    }
}
