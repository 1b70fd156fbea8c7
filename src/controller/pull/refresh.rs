//! What became of a request to look up again what the tag stands for: pure.

use jiff::Timestamp;

use super::observe::{Observed, Seen};
use crate::{
    api::{ModelPull, NodePull, Refresh},
    domain::pull::{Asked, Lookup, NodePhase, Stage, lookup},
};

const SUSPENDED: &str = "held by spec.suspend: set it to false";

/// The request that was answered last, for the status; `nodes` is where the nodes stand, in the order of the observations.
pub fn answered(pull: &ModelPull, observed: &Observed, nodes: &[NodePull], now: Timestamp) -> Option<Refresh> {
    let earlier = || pull.status.as_ref().and_then(|status| status.refresh.clone());
    let Some(id) = pull.refresh_wanted() else { return earlier() };
    let answer = |pending, message: String| Some(Refresh { id: id.to_owned(), pending, message });
    if pull.spec.digest.is_some() {
        // Whatever the tag stands for.
        return answer(false, String::new());
    }
    if pull.spec.suspend {
        return answer(true, SUSPENDED.into());
    }
    let Some(said) = &observed.refresh else { return earlier() };
    let failures: Vec<Option<String>> = observed.nodes.iter().map(|seen| failure(seen, now)).collect();
    let asked = observed.nodes.iter().zip(nodes).zip(&failures).map(|((seen, node), failure)| Asked {
        is_direct: seen.is_direct,
        is_usable: seen.node.usable().is_ok() && seen.yields.is_none(),
        has_asked: seen.has_asked || seen.yields.is_some(),
        is_ready: node.phase == NodePhase::Ready,
        failure: failure.as_deref(),
    });
    match lookup(said, &asked.collect::<Vec<_>>()) {
        Lookup::Awaited => earlier(),
        Lookup::Answered { is_pending, failure } => answer(is_pending, failure.unwrap_or_default()),
    }
}

/// Why a node's last try failed, while it waits for the next one.
fn failure(seen: &Seen, now: Timestamp) -> Option<String> {
    let attempt = seen.attempt.as_ref().filter(|attempt| matches!(attempt.stage, Stage::Failed))?;
    let failure = attempt.failure.as_ref().filter(|failure| failure.retry_at > now)?;
    Some(format!("{}: {}", seen.node.metadata.name.as_deref().unwrap_or_default(), failure.sentence()))
}
