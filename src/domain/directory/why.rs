//! Why a request goes to a model. Its words are put together when somebody reads them: of the models that a request could
//! go to, mostly only the first is asked.

use std::fmt;

use super::{Model, Objective, Profile};

/// Bytes that most of them have room in, with what a deployment adds.
const USUAL: usize = 192;

/// What led to a model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Why<'d> {
    /// The worker that asks.
    pub(super) worker: Option<&'d str>,
    /// The chain, which of its steps, counted from one, and of how many.
    pub(super) step: Option<(&'d str, usize, usize)>,
    /// Who chose it; nobody: it is asked for by name.
    pub(super) chooser: Option<Chooser<'d>>,
    /// Whether it goes first because it was measured to be the fastest.
    pub(super) is_fastest: bool,
}

/// A profile, as people call it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chooser<'d> {
    Profile(&'d str),
    Auto(&'d str),
}

impl<'d> Chooser<'d> {
    fn words(&self) -> [&'d str; 2] {
        match self {
            Self::Profile(name) => ["profile ", name],
            Self::Auto(tag) => ["auto:", tag],
        }
    }
}

impl fmt::Display for Chooser<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().concat())
    }
}

impl Why<'_> {
    /// In words, of this model at `place`, and of the profile that chose it.
    pub(super) fn tell<V>(&self, model: &Model, place: u32, profile: Option<&Profile<V>>) -> String {
        // Written piece by piece: every request for a profile, a chain or a worker has this in its record.
        let mut told = String::with_capacity(USUAL);
        let mut say = |words: &[&str]| words.iter().for_each(|word| told.push_str(word));
        if let Some(worker) = self.worker {
            say(&["worker ", worker, ": "]);
        }
        if let Some((chain, at, count)) = self.step {
            say(&["chain ", chain, ", step ", &at.to_string(), " of ", &count.to_string(), ": "]);
        }
        let (Some(chooser), Some(profile)) = (self.chooser, profile) else {
            say(&[&model.name, " is asked for by name"]);
            return told;
        };
        say(&chooser.words());
        say(&[": ", &model.name, " "]);
        let at = profile.ranked.iter().position(|known| *known == place).unwrap_or_default();
        let count = profile.ranked.len();
        if at >= profile.own as usize {
            let name = profile.needs.fallback_profile.as_deref().unwrap_or_default();
            say(&["is the choice of the fallback profile ", name]);
            return told;
        }
        let best = match profile.needs.objective {
            Objective::Quality => "is the biggest of ",
            Objective::Latency if self.is_fastest => "is the fastest of ",
            Objective::Latency => "is the smallest of ",
            Objective::Cost => "is the cheapest of ",
        };
        match (at, profile.lead) {
            (0, 1) if count > 1 && !self.is_fastest => say(&["goes before all others that suit"]),
            (at, _) if at > 0 && !self.is_fastest => {
                say(&["is number ", &(at + 1).to_string(), " of ", &count.to_string(), " that suit"]);
            }
            _ => say(&[best, &count.to_string(), " that suit"]),
        }
        told
    }
}
