//! Models that embed. Vectors of two versions can't be compared, so requests must not be answered by both in turn: a
//! version of such a model takes all requests at once.

use kube::ResourceExt;

use super::super::Context;
use crate::{
    api::{ModelDeployment, ModelVersion},
    domain::{
        conditions::Finding,
        registry::only_embeds,
        rollout::{Spec, State},
    },
};

/// Takes the steps from a rollout of versions that only embed; says so where steps were asked for.
pub fn skip_steps(context: &Context, object: &ModelDeployment, state: &State, spec: &mut Spec) -> Option<Finding> {
    let namespace = object.namespace().unwrap_or_default();
    let versions = context.versions.list(&namespace);
    let concerned = [Some(spec.version.as_str()), state.stable_version()];
    let mut concerned = versions.iter().filter(|version| {
        version.spec.model == object.spec.model && concerned.contains(&Some(version.spec.version.as_str()))
    });
    if spec.steps.is_empty() || !concerned.any(|version| embeds(context, version)) {
        return None;
    }
    spec.steps.clear();
    spec.analysis = None;
    let message = "it embeds, and vectors of two versions can't be compared: a new version takes all requests at once, \
                   without steps; strategy.immediate says the same";
    Some(Finding::new("ImmediateOnly", true, "EmbeddingModel", message))
}

/// Whether a version makes embeddings and nothing else, as far as it is known.
pub fn embeds(context: &Context, version: &ModelVersion) -> bool {
    let namespace = version.namespace().unwrap_or_default();
    if let Some(source) = &version.spec.source.provider {
        let providers = context.providers.list(&namespace);
        let offers = providers.iter().filter(|provider| provider.name_any() == source.name);
        let offer = offers.filter_map(|provider| provider.offer(&source.model)).next();
        return offer.is_some_and(|offer| only_embeds(&offer.capabilities));
    }
    let Some(digest) = version.status.as_ref().and_then(|status| status.digest.as_ref()) else { return false };
    let nodes = context.nodes.list(&namespace);
    let models = nodes.iter().flat_map(|node| node.status.iter().flat_map(|status| &status.models));
    models.filter(|model| model.digest == *digest).any(|model| only_embeds(&model.capabilities))
}
