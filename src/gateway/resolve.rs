//! What a caller's model name stands for: pure.

use axum::http::StatusCode;

use super::failure::Failure;
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

/// Finds `deployment/NAME` and `provider/NAME/MODEL`; or a bare name, first among deployments, then among the nodes' models. As many clients add
/// `:latest` to a bare name, a deployment is found by that, too, unless a model has the name.
///
/// # Errors
/// 404 that says what was looked for and what there is; 503 for a provider that can't be used now.
pub fn resolve<'a>(namespace: &'a Namespace, name: &str) -> Result<Found<'a>, Failure> {
    if let Some(reference) = name.strip_prefix(PROVIDER) {
        return offered(namespace, name, reference).map(Found::Tag);
    }
    let short = name.strip_prefix(DEPLOYMENT);
    if let Some((name, deployment)) = namespace.deployments.get_key_value(short.unwrap_or(name)) {
        return Ok(Found::Deployment(name, deployment));
    }
    if let Some(target) = plain(namespace, name).filter(|_| short.is_none()) {
        return Ok(Found::Tag(target));
    }
    let bare = short.unwrap_or(name).strip_suffix(LATEST);
    let deployment = bare.and_then(|bare| namespace.deployments.get_key_value(bare));
    deployment.map(|(name, deployment)| Found::Deployment(name, deployment)).ok_or_else(|| unknown(namespace, name))
}

/// A provider's model. A client that adds `:latest` to every name gets it, too.
fn offered<'a>(namespace: &'a Namespace, name: &str, reference: &str) -> Result<&'a Target, Failure> {
    let not_found = |why: String| {
        Failure::new(StatusCode::NOT_FOUND, "model_not_found", format!("model {name:?} not found: {why}"))
    };
    let Some((provider, model)) = reference.split_once('/') else {
        return Err(not_found("write provider/NAME/MODEL".into()));
    };
    let Some(found) = namespace.providers.get(provider) else {
        let there = some_of(namespace.providers.keys().map(String::as_str));
        return Err(not_found(format!("no such provider; {there}")));
    };
    if let Some(fault) = &found.fault {
        let message = format!("provider {provider} can't be used: {fault}");
        return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "provider_not_usable", message));
    }
    let bare = || model.strip_suffix(LATEST).and_then(|bare| found.models.get(bare));
    let there = || some_of(found.models.keys().map(String::as_str));
    let target = found.models.get(model).or_else(bare);
    target.ok_or_else(|| not_found(format!("provider {provider} doesn't offer it; {}", there())))
}

fn plain<'a>(namespace: &'a Namespace, name: &str) -> Option<&'a Target> {
    let full = name.parse::<ModelName>().ok()?.to_string().to_ascii_lowercase();
    namespace.tags.get(&full).filter(|target| !is_hidden(target))
}

/// The names that people can call: deployments, then tags that no deployment's name covers, then models of providers.
pub fn callable(namespace: &Namespace) -> impl Iterator<Item = (&str, &Target)> {
    let deployments = namespace.deployments.iter().map(|(name, deployment)| (name.as_str(), &deployment.stable));
    let tags = namespace.tags.values().filter(|target| !is_hidden(target)).map(|target| (target.tag.as_str(), target));
    let offered = namespace.providers.values().flat_map(|provider| provider.models.values());
    let offered = offered.map(|target| (target.tag.as_str(), target));
    deployments.chain(tags.filter(|(tag, _)| !namespace.deployments.contains_key(*tag))).chain(offered)
}

fn is_hidden(target: &Target) -> bool {
    is_alias(&target.model.to_ascii_lowercase())
}

fn unknown(namespace: &Namespace, name: &str) -> Failure {
    let kinds =
        if name.starts_with(DEPLOYMENT) { "no such deployment" } else { "no deployment and no model of that name" };
    let there = some_of(callable(namespace).map(|(name, _)| name));
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
