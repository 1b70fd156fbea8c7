//! What a gateway makes of a node by how its last answers went, besides what the controller sees of it.

use std::time::Duration;

/// So many failed answers in a row put a node aside.
const FAILURES: u32 = 5;
/// How long it is put aside the first time; each further time in a row twice as long, up to the longest.
const ASIDE_FOR: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);

/// How an attempt on a node ended. What a caller broke off or got wrong is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It answered.
    Answered,
    /// It answered with an error of its own.
    Failed,
    /// There was no connection, no answer in time, or the answer broke off.
    Lost,
}

/// Whether a node is given requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As always.
    Sound,
    /// Only when no other can take them.
    Aside,
    /// One, to see whether it works again.
    OnTrial,
}

/// A node's last answers. Times count from any fixed moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    failures: u32,
    times_aside: u32,
    until: Option<Duration>,
}

impl Health {
    /// What it is after one more answer, at `now`.
    #[must_use]
    pub fn after(self, ending: Ending, now: Duration) -> Self {
        let failures = match ending {
            Ending::Answered => return Self::default(),
            Ending::Failed => self.failures + 1,
            Ending::Lost => FAILURES,
        };
        // Who was put aside and fails again, on trial or because nobody else was left, hasn't recovered.
        if failures < FAILURES && self.until.is_none() {
            return Self { failures, ..self };
        }
        let rest = ASIDE_FOR.saturating_mul(1 << self.times_aside.min(6)).min(LONGEST);
        // Many requests that fail together are one reason, not many.
        if self.until.is_some_and(|until| now < until) {
            return self;
        }
        Self { failures: 0, times_aside: self.times_aside + 1, until: Some(now + rest) }
    }

    /// Until when it is put aside; `None`: it is sound.
    pub fn aside_until(self) -> Option<Duration> {
        self.until
    }

    /// Whether it is given requests at `now`.
    pub fn standing(self, now: Duration) -> Standing {
        match self.until {
            None => Standing::Sound,
            Some(until) if now < until => Standing::Aside,
            Some(_) => Standing::OnTrial,
        }
    }
}
