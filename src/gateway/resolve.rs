//! What a caller's model name stands for: pure.

use axum::http::StatusCode;

use super::{callers::Caller, failure::Failure};
use crate::{
    domain::{alias::is_alias, model_name::ModelName},
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
}

impl Found<'_> {
    /// Whether a caller may use it.
    fn is_for(&self, caller: &Caller) -> bool {
        caller.patterns().is_none_or(|patterns| match self {
            Self::Deployment(name, _) => patterns.fit(name) || patterns.fit(&format!("{DEPLOYMENT}{name}")),
            Self::Tag(target) => patterns.fit(&target.tag),
        })
    }

    /// Whether answers are checked by the schemas of their requests, where those don't say.
    pub fn checks_schema(&self) -> bool {
        matches!(self, Found::Deployment(_, deployment) if deployment.schema_check)
    }

    /// The request header that names a session, where a deployment says so.
    pub fn sticky_header(&self) -> Option<&str> {
        match self {
            Self::Deployment(_, deployment) => deployment.sticky_header.as_deref(),
            Self::Tag(_) => None,
        }
    }
}

/// Finds `deployment/NAME` and `provider/NAME/MODEL`; or a bare name, first among deployments, then among the nodes'
/// models. As many clients add `:latest` to a bare name, a deployment is found by that, too, unless a model has the name.
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
    let all = deployments.chain(tags).filter(|found| found.is_for(caller)).map(|found| match found {
        Found::Deployment(name, deployment) => (name, &deployment.stable),
        Found::Tag(target) => (target.tag.as_str(), target),
    });
    all.chain(of_providers(namespace, caller).map(|target| (target.tag.as_str(), target)))
}

fn is_hidden(target: &Target) -> bool {
    is_alias(&target.model.to_ascii_lowercase())
}

fn unknown(namespace: &Namespace, name: &str, caller: &Caller) -> Failure {
    let kinds =
        if name.starts_with(DEPLOYMENT) { "no such deployment" } else { "no deployment and no model of that name" };
    let there = some_of(callable(namespace, caller).map(|(name, _)| name));
    Failure::new(StatusCode::NOT_FOUND, "model_not_found", format!("model {name:?} not found: {kinds}; {there}"))
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
