//! When a folder is read: pure.

use std::time::Duration;

use tokio::time::Instant;

use super::folder::Look;

/// How often a folder is looked at. What looks the same twice is written to no longer.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What others changed in the API is put right after this time.
const AGAIN: Duration = Duration::from_secs(60);
/// What didn't go well is tried again after this time.
const AGAIN_AFTER_FAULTS: Duration = Duration::from_secs(10);

/// What was seen and done of a folder.
#[derive(Debug, Default)]
pub struct Settling {
    last: Option<Look>,
    done: Option<Done>,
}

#[derive(Debug)]
struct Done {
    look: Look,
    at: Instant,
    is_well: bool,
}

impl Settling {
    /// Takes a look; whether the folder is to be read and applied now.
    pub fn is_due(&mut self, look: &Look, now: Instant) -> bool {
        let is_settled = self.last.replace(look.clone()).as_ref() == Some(look);
        is_settled
            && self.done.as_ref().is_none_or(|done| {
                let after = if done.is_well { AGAIN } else { AGAIN_AFTER_FAULTS };
                done.look != *look || now.duration_since(done.at) >= after
            })
    }

    /// The folder can't be looked at: whatever comes next is new.
    pub fn lost(&mut self) {
        self.last = None;
    }

    /// What it looked like was applied; whether that is news.
    pub fn done(&mut self, look: Look, at: Instant, is_well: bool) -> bool {
        let is_new = self.done.as_ref().is_none_or(|done| done.look != look);
        self.done = Some(Done { look, at, is_well });
        is_new
    }
}
