//! What a caller's model name stands for: pure.

use std::borrow::Cow;

use axum::http::StatusCode;
use serde_json::Value;

use super::{
    callable::{callable, is_hidden, of_providers},
    callers::Caller,
    failure::Failure,
    session::Message,
};
use crate::{
    domain::{
        directory::{self, Directory, Place, Pointer, Policy, Worker, leaves},
        model_name::ModelName,
        reference::{Kind, Reference},
    },
    routing_table::{Deployment, Namespace, Target},
};

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
        let name = self.name;
        let by_name = match self.kind {
            None => fit(&Reference::Auto(name).to_string()),
            Some(kind) => fit(name) || fit(&Reference::Object(kind, name).to_string()),
        };
        let by_model =
            |model: &directory::Model| fit(&model.name) || matches!(&model.place, Place::Deployment(name) if fit(name));
        by_name || self.directory.all_fit(&self.pointer(), &by_model) == Some(true)
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
    pub(super) fn is_for(&self, caller: &Caller) -> bool {
        caller.patterns().is_none_or(|patterns| match self {
            Self::Deployment(name, _) => {
                patterns.fit(name) || patterns.fit(&Reference::Object(Kind::Deployment, name).to_string())
            }
            Self::Tag(target) => patterns.fit(&target.tag),
            Self::Routed(routed) => routed.is_for(|name| patterns.fit(name)),
        })
    }

    /// The kind of the object that it is, if it is one: `deployment`, `chain`, `profile`, `worker`; or `auto`.
    pub fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Deployment(..) => Some(Kind::Deployment.name()),
            Self::Tag(_) => None,
            Self::Routed(routed) => Some(routed.named().0),
        }
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
/// built-in profiles. As many clients add `:latest` to a bare name, an object is found by that, too, unless a model has the name.
///
/// # Errors
/// 404 that says what was looked for and what there is; 403 for what the caller may not use; 503 for a provider that can't
/// be used now.
pub fn resolve<'a>(namespace: &'a Namespace, name: &str, caller: &Caller) -> Result<Found<'a>, Failure> {
    let found = match Reference::parse(name) {
        Reference::Provider { name, model } => Some(Found::Tag(offered(namespace, name, model, caller)?)),
        Reference::Auto(tag) => routed(&namespace.directory, None, tag).map(Found::Routed),
        Reference::Object(Kind::Deployment, name) => deployment(namespace, name),
        Reference::Object(kind, name) => routed(&namespace.directory, Some(kind), name).map(Found::Routed),
        Reference::Bare(name) => bare(namespace, name),
    };
    let found = found.ok_or_else(|| unknown(namespace, name, caller))?;
    if found.is_for(caller) { Ok(found) } else { Err(caller.not_allowed(name)) }
}

/// Finds whose a bare name is: an object's, else a model's as nodes name it, else with `:latest` an object's.
fn bare<'a>(namespace: &'a Namespace, name: &str) -> Option<Found<'a>> {
    let routed = |kind| routed(&namespace.directory, Some(kind), name).map(Found::Routed);
    let owner = namespace.directory.owner(name).filter(|kind| *kind != Kind::Deployment);
    let tag = || if namespace.deployments.contains_key(name) { None } else { plain(namespace, name).map(Found::Tag) };
    let others = || [Kind::Chain, Kind::Profile, Kind::Worker].into_iter().find_map(routed);
    owner.and_then(routed).or_else(tag).or_else(|| deployment(namespace, name)).or_else(others)
}

/// What the directory has under a name of this kind; with `:latest`, too.
pub(super) fn routed<'a>(directory: &'a Directory<Value>, kind: Option<Kind>, name: &str) -> Option<Routed<'a>> {
    let key = |name: &str| match kind {
        None => directory.autos.get_key_value(name).map(|(name, _)| name),
        Some(Kind::Chain) => directory.chains.get_key_value(name).map(|(name, _)| name),
        Some(Kind::Profile) => directory.profiles.get_key_value(name).map(|(name, _)| name),
        Some(Kind::Worker) => directory.workers.get_key_value(name).map(|(name, _)| name),
        Some(Kind::Deployment) => None,
    };
    let found = with_latest(name, key);
    found.map(|name| Routed { kind, name, directory })
}

fn deployment<'a>(namespace: &'a Namespace, name: &str) -> Option<Found<'a>> {
    let found = with_latest(name, |name| namespace.deployments.get_key_value(name));
    found.map(|(name, deployment)| Found::Deployment(name, deployment))
}

/// A provider's model.
fn offered<'a>(namespace: &'a Namespace, provider: &str, model: &str, caller: &Caller) -> Result<&'a Target, Failure> {
    let found = namespace.providers.get(provider);
    if let Some(target) = found.and_then(|found| with_latest(model, |model| found.models.get(model))) {
        return Ok(target);
    }
    if let Some(fault) = found.and_then(|found| found.fault.as_ref()) {
        let message = format!("provider {provider} can't be used: {fault}");
        return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "provider_not_usable", message));
    }
    let why = if found.is_some() { "the provider doesn't offer it" } else { "no such provider" };
    let there = some_of(of_providers(namespace, caller).map(|target| target.tag.as_str()));
    let name = Reference::Provider { name: provider, model }.to_string();
    let message = format!("model {name:?} not found: {why} (write provider/NAME/MODEL); {there}");
    Err(Failure::new(StatusCode::NOT_FOUND, "model_not_found", message))
}

/// Finds something by a name, or by what it is without the `:latest` that some clients add to every name.
fn with_latest<T>(name: &str, find: impl Fn(&str) -> Option<T>) -> Option<T> {
    find(name).or_else(|| find(name.strip_suffix(LATEST)?))
}

fn plain<'a>(namespace: &'a Namespace, name: &str) -> Option<&'a Target> {
    let full = name.parse::<ModelName>().ok()?.to_string().to_ascii_lowercase();
    namespace.tags.get(&full).filter(|target| !is_hidden(target))
}

fn unknown(namespace: &Namespace, name: &str, caller: &Caller) -> Failure {
    let kinds = match Reference::parse(name) {
        Reference::Auto(_) => "no default and no tag of that name".into(),
        Reference::Object(kind, _) => format!("no such {kind}"),
        Reference::Provider { .. } | Reference::Bare(_) => "no deployment and no model of that name".into(),
    };
    let there = some_of(callable(namespace, caller).map(|callable| callable.name));
    // Who may use some models only isn't told of others.
    let near = if caller.patterns().is_none() { namespace.directory.unknown(name).nearest } else { Vec::new() };
    let hint = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) };
    Failure::new(StatusCode::NOT_FOUND, "model_not_found", format!("model {name:?} not found: {kinds}; {there}{hint}"))
}

/// What there is, or some of it.
fn some_of<'a>(names: impl Iterator<Item = impl Into<Cow<'a, str>>>) -> String {
    let mut names: Vec<Cow<'a, str>> = names.map(Into::into).collect();
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    match (names.is_empty(), more) {
        (true, _) => "nothing is ready to be called".into(),
        (_, 0) => format!("there is {}", names.join(", ")),
        (..) => format!("there is {} and {more} more", names.join(", ")),
    }
}
