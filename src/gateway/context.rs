//! Which nodes take a request's context window, and what a caller is told when none does.

use super::{ask::Ask, failure::Failure, plan::Leg};
use crate::routing_table::{Node, Target};

/// Whether a node takes requests at all, and the window that it would be called with for this one.
pub fn fits(ask: &Ask, target: &Target, node: &Node) -> bool {
    node.weight > 0 && ask.context(target, node).is_ok()
}

/// Refuses a window that no node allows.
///
/// # Errors
/// Field, value and range.
pub fn check(ask: &Ask, legs: &[Leg<'_>]) -> Result<(), Failure> {
    let Some(wanted) = ask.num_ctx else { return Ok(()) };
    let model = legs.iter().map(|leg| leg.target.context_length().unwrap_or(u64::MAX)).max();
    let holders = legs.iter().flat_map(|leg| &leg.target.holders);
    let node = holders.map(|holder| holder.node.max_context_length.map_or(u64::MAX, u64::from)).max();
    let limits = [(model, "the model can take"), (node, "any node allows")];
    match limits.into_iter().find_map(|(most, who)| Some((most.filter(|most| wanted > *most)?, who))) {
        None => Ok(()),
        Some((most, who)) => Err(Failure::bad_request(format!(
            "options.num_ctx: {wanted} is not in the range from 1 to {most}: those are the tokens that {who}"
        ))),
    }
}

/// Says that nodes allow less context than the version is configured for.
pub fn too_narrow(ask: &Ask, legs: &[Leg<'_>]) -> Option<String> {
    let holders = legs.iter().flat_map(|leg| leg.target.holders.iter().map(|holder| (leg.target, holder)));
    let limit = holders.filter_map(|(target, holder)| ask.context(target, &holder.node).err()).max()?;
    Some(format!("the version's num_ctx is over the {limit} tokens that its nodes allow"))
}
