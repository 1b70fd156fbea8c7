//! Why a node would be asked, or not.

use std::{collections::BTreeSet, time::Duration};

use super::view::{Load, NodeState, NodeView};
use crate::{
    domain::routing::Standing,
    gateway::{
        ask::Ask,
        balance::{Outlook, Seen},
    },
    routing_table::{Namespace, Target},
};

/// Every node of the namespace: those that hold the target in the order of the table, then the others.
pub fn nodes(namespace: &Namespace, ask: &Ask, target: &Target, outlook: &Outlook, is_first: bool) -> Vec<NodeView> {
    let holders = outlook.nodes.iter().enumerate().map(|(at, seen)| {
        let next = outlook.next.filter(|(next, _)| *next == at && is_first);
        let (state, why) = match next {
            Some((_, by_session)) => (NodeState::Chosen, chosen(seen, by_session)),
            None => judge(ask, target, seen),
        };
        let Seen { holder, in_flight, limit, window, .. } = seen;
        let (loaded, weight) = (holder.loaded, holder.node.weight);
        let load = Some(Load { loaded, in_flight: *in_flight, limit: *limit, weight, window: *window });
        NodeView { node: holder.node.name.clone(), state, why, load }
    });
    let known: BTreeSet<&str> = outlook.nodes.iter().map(|seen| seen.holder.node.name.as_str()).collect();
    let lacking = namespace.nodes.keys().filter(|name| !known.contains(name.as_str())).map(|name| {
        let why = target.passed_over.get(name).cloned();
        let why = why.unwrap_or_else(|| format!("it does not hold {}", target.tag));
        NodeView { node: name.clone(), state: NodeState::Lacking, why, load: None }
    });
    let away = namespace.away.iter();
    let away =
        away.map(|(name, why)| NodeView { node: name.clone(), state: NodeState::Away, why: why.clone(), load: None });
    holders.chain(lacking).chain(away).collect()
}

fn chosen(seen: &Seen, by_session: bool) -> String {
    let by = if by_session { "the session's own node" } else { "the least load for its share" };
    format!("{by}: {}", facts(seen))
}

fn facts(Seen { holder, in_flight, limit, .. }: &Seen) -> String {
    let loaded = if holder.loaded { "has the model in memory" } else { "would have to load the model" };
    format!("{loaded}, {in_flight} of {limit} places taken, weight {}", holder.node.weight)
}

fn judge(ask: &Ask, target: &Target, seen: &Seen) -> (NodeState, String) {
    if seen.holder.node.weight == 0 {
        return (NodeState::Unfit, "its weight is 0".into());
    }
    if let Err(limit) = ask.context(target, &seen.holder.node) {
        return (NodeState::Unfit, format!("the context window is over its limit of {limit} tokens"));
    }
    match seen.standing {
        (Standing::Aside, left) => {
            let left = Duration::from_secs(left.as_secs() + 1);
            (NodeState::Aside, format!("its last answers failed: others go first for up to {left:?} more"))
        }
        (Standing::OnTrial, _) => {
            (NodeState::Aside, "its last answers failed: one request at a time finds out whether it works again".into())
        }
        (Standing::Sound, _) if seen.in_flight >= seen.limit => {
            (NodeState::Full, format!("all {} places are taken", seen.limit))
        }
        (Standing::Sound, _) => (NodeState::Eligible, format!("another one is better placed: it {}", facts(seen))),
    }
}
