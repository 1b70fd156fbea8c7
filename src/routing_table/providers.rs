//! From providers to what requests see of them: pure.

use std::{collections::BTreeMap, sync::Arc};

use kube::ResourceExt;

use super::{Holder, Node, Provider, Target, compile::edition};
use crate::{
    api::{self, ModelVersion, ProviderModel, ProviderSource},
    domain::{
        node::NodeModel,
        provider::{Endpoint, Offer, node_name, tag},
        rollout::Release,
    },
};

/// A provider's share relative to itself, which is the only one that has its models.
const WEIGHT: u32 = 100;

/// A provider and its models; one that can't be used says why and has none.
pub fn compile(object: &api::Provider) -> Provider {
    let (endpoint, node) = (Arc::new(object.endpoint()), Arc::new(node(object)));
    match object.usable() {
        Err(why) => Provider { node, models: BTreeMap::new(), fault: Some(why.into()) },
        Ok(()) => {
            let target = |model: ProviderModel| (model.name.clone(), target(&endpoint, &node, &model));
            let models = object.offered().into_iter().map(target).collect();
            Provider { node, models, fault: None }
        }
    }
}

/// A provider stands where nodes stand: it has a limit, a queue and a health of its own.
fn node(object: &api::Provider) -> Node {
    let name = node_name(&object.name_any());
    Node {
        id: format!("{}/{name}", object.namespace().unwrap_or_default()),
        name,
        url: object.spec.url.clone(),
        weight: WEIGHT,
        max_concurrent_requests: object.spec.max_concurrent_requests,
        keep_alive: None,
        context_length: None,
        max_context_length: None,
    }
}

/// A version as its provider serves it; nobody does while the provider can't be used.
pub fn version(
    version: &ModelVersion,
    source: &ProviderSource,
    release: &Release,
    providers: &[Arc<api::Provider>],
) -> Option<Target> {
    if release.identity() != source.tag() {
        return None;
    }
    let same = |provider: &&Arc<api::Provider>| {
        provider.namespace() == version.namespace() && provider.name_any() == source.name
    };
    let usable = providers.iter().find(same).filter(|provider| provider.usable().is_ok())?;
    let model = usable.offer(&source.model)?;
    Some(Target {
        version: Some(version.spec.version.clone()),
        parameters: version.spec.parameters.clone(),
        system_prompt: version.spec.system_prompt.as_ref().map(|prompt| prompt.text.clone()),
        prompt_edition: version.spec.system_prompt.as_ref().map(edition),
        ..target(&Arc::new(usable.endpoint()), &Arc::new(node(usable)), &model)
    })
}

/// One model, by its provider's name.
fn target(endpoint: &Arc<Endpoint>, node: &Arc<Node>, model: &ProviderModel) -> Target {
    let details = NodeModel {
        name: model.name.clone(),
        capabilities: model.capabilities.clone(),
        context_length: model.context_length.map(i64::from),
        ..NodeModel::default()
    };
    let offer = Offer { endpoint: endpoint.clone(), max_output_tokens: model.max_output_tokens, price: model.price() };
    Target {
        tag: tag(&endpoint.name, &model.name),
        model: model.name.clone(),
        details: Some(Arc::new(details)),
        offer: Some(Arc::new(offer)),
        holders: vec![Holder { node: node.clone(), loaded: true, digest: String::new() }],
        ..Target::default()
    }
}
