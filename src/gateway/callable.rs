//! The names that a caller can call, for clients that choose from lists: pure.

use std::borrow::Cow;

use serde_json::Value;

use super::{
    callers::Caller,
    resolve::{Found, routed},
};
use crate::{
    domain::{
        alias::is_alias,
        directory::{Directory, builtin},
        model_db::Capabilities,
        reference::{Kind, Reference},
    },
    routing_table::{Namespace, Target},
};

/// A name that can be sent back as the model of a request.
pub struct Callable<'a> {
    /// The name: without its kind where it is this object's, and not an older one's of another kind.
    pub name: Cow<'a, str>,
    /// What it stands for.
    pub found: Found<'a>,
    /// What would answer first now; of a deployment, its stable version.
    pub target: &'a Target,
}

/// The names that a caller can call: deployments, then chains, profiles and workers that come to a model, then tags that none
/// of these names covers, then models of providers. What is built in (profiles, `auto:TAG`) is not among them: nobody
/// asked for it.
pub fn callable<'a>(namespace: &'a Namespace, caller: &'a Caller) -> impl Iterator<Item = Callable<'a>> {
    let directory = &namespace.directory;
    let deployments = namespace.deployments.iter().map(|(name, deployment)| Callable {
        name: shortest(directory, Kind::Deployment, name),
        found: Found::Deployment(name, deployment),
        target: &deployment.stable,
    });
    let tags = namespace.tags.values().filter(|target| !is_hidden(target));
    let tags = tags
        .filter(|target| !namespace.deployments.contains_key(&target.tag) && directory.owner(&target.tag).is_none());
    let all = deployments.chain(choices(namespace)).chain(tags.map(itself));
    all.filter(|callable| callable.found.is_for(caller)).chain(of_providers(namespace, caller).map(itself))
}

/// The models of providers that a caller can call.
pub fn of_providers<'a>(namespace: &'a Namespace, caller: &'a Caller) -> impl Iterator<Item = &'a Target> {
    let offered = namespace.providers.values().flat_map(|provider| provider.models.values());
    offered.filter(|target| Found::Tag(target).is_for(caller))
}

/// Whether people don't see it: nodes hold versions by names of Drover's own.
pub fn is_hidden(target: &Target) -> bool {
    is_alias(&target.model.to_ascii_lowercase())
}

fn itself(target: &Target) -> Callable<'_> {
    Callable { name: Cow::Borrowed(&target.tag), found: Found::Tag(target), target }
}

/// The chains, profiles and workers that somebody made and that come to a model.
fn choices(namespace: &Namespace) -> impl Iterator<Item = Callable<'_>> {
    let directory = &namespace.directory;
    let builtin = builtin();
    let is_made = move |name: &str| {
        directory.owner(name) == Some(Kind::Profile) || builtin.iter().all(|(builtin, _)| *builtin != name)
    };
    let chains = directory.chains.keys().map(|name| (Kind::Chain, name));
    let profiles = directory.profiles.keys().filter(move |name| is_made(name)).map(|name| (Kind::Profile, name));
    let workers = directory.workers.keys().map(|name| (Kind::Worker, name));
    chains.chain(profiles).chain(workers).filter_map(move |(kind, name)| {
        let routed = routed(directory, Some(kind), name)?;
        let ways = directory.ways(&routed.pointer(), Capabilities::NONE, |_| None).ok()?;
        let target = namespace.target(&ways.first()?.model.place)?;
        Some(Callable { name: shortest(directory, kind, name), found: Found::Routed(routed), target })
    })
}

fn shortest<'a>(directory: &Directory<Value>, kind: Kind, name: &'a str) -> Cow<'a, str> {
    match directory.clash(kind, name) {
        None => Cow::Borrowed(name),
        Some(_) => Cow::Owned(Reference::Object(kind, name).to_string()),
    }
}
