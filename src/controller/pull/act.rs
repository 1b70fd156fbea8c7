//! Does what the plan says.

use std::{collections::HashSet, sync::Arc};

use kube_runtime::reflector::ObjectRef;

use super::{
    super::Context,
    job::{Route, Terms, Through},
    observe::{Observed, Seen},
    plan::{Plan, Step},
    pulling::{Key, key},
};
use crate::{
    api::ModelPull,
    domain::pull::{NodePhase, Want},
};

/// Starts, breaks off, asks, puts on record. An attempt that begins to wait says in the plan for what.
pub fn act(context: &Arc<Context>, pull: &ModelPull, plan: &mut Plan, observed: &Observed) {
    let object = ObjectRef::from_obj(pull);
    let keys: HashSet<Key> = observed.nodes.iter().map(|seen| key(&seen.node.spec.url, &pull.spec.model)).collect();
    context.pulling.keep_only(&object, &keys);
    if let (Some(grants), Some((request, _)), true) = (&context.grants, &observed.mirror, plan.ask) {
        grants.ask(context, request.clone());
    }
    let want = Want { priority: pull.spec.priority, parallelism: pull.spec.parallelism };
    for ((seen, step), node) in observed.nodes.iter().zip(&plan.steps).zip(&mut plan.nodes) {
        let key = key(&seen.node.spec.url, &pull.spec.model);
        match step {
            Step::Keep => {}
            Step::Release => context.pulling.release_one(&key, &object),
            Step::Start => {
                let terms = || Terms::new(pull, &seen.node, route(context, observed, seen));
                let hold = context.pulling.want(&key, &object, want, terms);
                if node.phase == NodePhase::Pending {
                    node.message = hold.message();
                }
            }
            Step::Record => {
                let node = ObjectRef::from_obj(&*seen.node);
                context.pulling.put(&node, &pull.spec.model);
                context.pokes.node(node);
            }
        }
    }
}

fn route(context: &Context, observed: &Observed, seen: &Seen) -> Route {
    match (&context.grants, &observed.mirror) {
        (Some(grants), Some((request, _))) if !seen.is_direct => {
            let url = grants.mirror_for(&seen.node);
            Route::Mirror(Box::new(Through { grants: grants.clone(), request: request.clone(), url }))
        }
        _ => Route::Direct,
    }
}
