//! What is known of the nodes that a pull wants.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;

use super::{
    super::Context,
    changes,
    grants::{Grant, Request},
    pulling,
};
use crate::{
    api::{ModelPull, OllamaNode, UpdatePolicy},
    domain::{
        model_name::ModelName,
        pull::{Answer, Attempt, Stage},
    },
};

/// What a pull's decisions rest on.
pub struct Observed {
    /// The nodes that the selector picks, by name.
    pub nodes: Vec<Seen>,
    /// What to ask the mirror, where there is one, and what it said.
    pub mirror: Option<(Request, Grant)>,
    /// What the mirror said since somebody wanted the tag looked up again, if somebody does.
    pub refresh: Option<Answer>,
}

/// One node that must hold the model.
pub struct Seen {
    /// The node.
    pub node: Arc<OllamaNode>,
    /// How the attempts there stand.
    pub attempt: Option<Attempt>,
    /// Whether it pulls from registries itself.
    pub is_direct: bool,
    /// When it is asked again though it has the model.
    pub next_check: Option<Timestamp>,
    /// Whether the node's status says that Drover put the model there, or will say so.
    pub is_put: bool,
    /// Why another object has the say.
    pub yields: Option<String>,
    /// Whether it is to hold what the tag stands for now, because somebody wanted that looked up again.
    pub refreshes: bool,
    /// Whether it asked the registry itself since then.
    pub has_asked: bool,
}

impl Seen {
    /// Whether the attempts there are at a stage.
    pub fn is_at(&self, is_it: impl Fn(&Stage) -> bool) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| is_it(&attempt.stage))
    }
}

/// Looks.
pub fn observe(context: &Context, pull: &ModelPull, now: Timestamp) -> Observed {
    let namespace = pull.namespace().unwrap_or_default();
    let object = ObjectRef::from_obj(pull);
    let mirror = context.grants.as_ref().map(|grants| {
        let request = grants.request(pull, &context.alias_id(&namespace));
        let resolved = pull.status.as_ref().and_then(|status| status.resolved.as_ref());
        let was_checked = resolved.is_some_and(|resolved| !resolved.upstream_digest.is_empty());
        let grant = grants.look(context, &object, &request, was_checked, now);
        (request, grant)
    });
    let refreshing = context.pulling.refresh(&object);
    let refresh = refreshing.as_ref().map(|wanted| said_since(mirror.as_ref().map(|(_, grant)| grant), wanted.since));
    let is_known = matches!(refresh, Some(Answer::Given(_)));
    let rivals = rivals(context, pull, &namespace, refresh.is_some());
    let picked = changes::nodes(&context.nodes, pull);
    let nodes = picked.into_iter().map(|node| {
        let is_direct = mirror.is_none() || node.spec.mirror.as_ref().is_some_and(|mirror| mirror.disabled);
        let follows = is_direct && pull.spec.update_policy == UpdatePolicy::Always;
        let interval = pull.spec.check_interval.0;
        let rival = rivals.iter().find(|rival| is_wanted(rival, &node));
        let key = pulling::key(&node.spec.url, &pull.spec.model);
        let has_asked = refreshing.as_ref().is_some_and(|wanted| wanted.asked.contains(&key.0));
        Seen {
            attempt: context.pulling.attempt(&key),
            is_direct,
            refreshes: refresh.is_some() && !has_asked && rival.is_none() && (is_direct || is_known),
            has_asked,
            next_check: follows.then(|| context.pulling.next_check(&object, &node.spec.url, interval, now)),
            is_put: context.pulling.is_put(&ObjectRef::from_obj(&*node), &pull.spec.model),
            yields: rival.map(|rival| {
                let digest = rival.spec.digest.as_deref().unwrap_or_default();
                format!("ModelPull {} pins {digest} under this name", rival.name_any())
            }),
            node,
        }
    });
    Observed { nodes: nodes.collect(), mirror, refresh }
}

fn said_since(grant: Option<&Grant>, since: Timestamp) -> Answer {
    let Some(grant) = grant.filter(|grant| grant.asked_at.is_some_and(|at| at >= since)) else {
        return Answer::Awaited;
    };
    match &grant.failure {
        Some(failure) => Answer::Refused(failure.sentence()),
        None => Answer::Given(grant.known.as_ref().and_then(|known| known.stale.clone())),
    }
}

/// Whether a node must hold an object's model.
pub fn is_wanted(pull: &ModelPull, node: &OllamaNode) -> bool {
    node.metadata.deletion_timestamp.is_none() && pull.spec.node_selector.matches(node.labels())
}

/// The objects that want another digest under the same name and come first: a pin before one that follows the tag, an
/// older pin before a younger one. Without this rule two objects would overwrite each other's model for ever.
fn rivals(context: &Context, pull: &ModelPull, namespace: &str, refreshes: bool) -> Vec<Arc<ModelPull>> {
    let spec = &pull.spec;
    if spec.digest.is_none() && spec.update_policy != UpdatePolicy::Always && !refreshes {
        return Vec::new();
    }
    let age = |pull: &ModelPull| (pull.creation_timestamp(), pull.name_any());
    context.pulls.find(namespace, |other| {
        other.spec.digest.is_some()
            && other.spec.digest != spec.digest
            && other.metadata.deletion_timestamp.is_none()
            && (spec.digest.is_none() || age(other) < age(pull))
            && ModelName::same(&other.spec.model, &spec.model)
    })
}
