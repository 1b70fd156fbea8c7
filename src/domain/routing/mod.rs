//! Which side of a rollout a request goes to, and which node answers it.

mod affinity;
mod choice;
mod health;
mod room;
mod runners;
mod split;

pub use affinity::{SHORTLIST, Seat, hash, settle, shortlist};
pub use choice::{Candidate, FEW, Groups, choose};
pub use health::{Ending, Health, Standing};
pub use room::{Site, claims, no_room};
pub use runners::{Claim, Placement, Shortage, apart, runner, shortages};
pub use split::{fails_outright, is_canary_session, is_canary_turn, may_be_tried, session_hash};
