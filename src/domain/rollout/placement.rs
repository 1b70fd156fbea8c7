//! A canary that loses its nodes.

use std::time::Duration;

use super::{
    NOBODY, holders,
    plan::{Cause, Draft, Next},
};
use crate::domain::pull::elapsed;

/// How long a canary may be without a node: longer than a node takes to start again.
const WITHOUT_NODE: Duration = Duration::from_secs(30);

impl Draft<'_> {
    /// A canary that no node holds any more goes, unless one is back soon. Where no node holds stable either, the version
    /// is not to blame.
    pub(super) fn mind_placement(&mut self) -> Next {
        let (Some(stable), Some(canary)) = (&self.state.stable, &mut self.state.canary) else { return Next::Continue };
        let versions = self.input.versions;
        if holders(versions, &canary.release) > 0 || holders(versions, &stable.release) == 0 {
            canary.lost_since = None;
            return Next::Continue;
        }
        let since = *canary.lost_since.get_or_insert(self.input.now);
        let left = WITHOUT_NODE.saturating_sub(elapsed(since, self.input.now));
        if left.is_zero() {
            self.take_back_canary(&Cause { why: "no ready node holds it any more", by: NOBODY });
            return Next::Done;
        }
        self.wake_after = Some(left);
        Next::Continue
    }
}
