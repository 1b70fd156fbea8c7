//! Which of the nodes that hold a model answers a request.

/// Up to so many nodes are compared one by one; of more, a few are drawn.
pub const FEW: usize = 8;
/// How many are drawn: two would do where all are alike.
const DRAWN: u64 = 4;

/// A node that could answer, as the gateway sees it at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Requests this gateway has under way there.
    pub in_flight: u32,
    /// How many it takes at once.
    pub limit: u32,
    /// Its share relative to the other nodes; 0 takes nothing.
    pub weight: u32,
    /// Whether it has the model in memory.
    pub loaded: bool,
    /// Whether its last answers failed.
    pub suspect: bool,
}

impl Candidate {
    /// Whether it takes one more request.
    pub fn has_room(&self) -> bool {
        self.weight > 0 && self.in_flight < self.limit
    }

    /// Compared in this order: nodes that work, nodes that have the model loaded, the least load for their share.
    fn rank(&self) -> (bool, bool, u64) {
        let share = u64::from(self.weight.max(1)) * u64::from(self.limit.max(1));
        (self.suspect, !self.loaded, (u64::from(self.in_flight) + 1) * 1_000_000_000 / share)
    }
}

/// The index of the best of so many nodes for the next request; `None` when none has room. Equals are taken in rotation, by
/// `turn`.
pub fn choose(count: usize, candidate: impl Fn(usize) -> Candidate, turn: usize) -> Option<usize> {
    (0..count)
        .map(|offset| (turn % count + offset) % count)
        .map(|index| (index, candidate(index)))
        .filter(|(_, candidate)| candidate.has_room())
        .min_by_key(|(_, candidate)| candidate.rank())
        .map(|(index, _)| index)
}

/// The nodes that hold one model, prepared for many choices among them.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    loaded: Group,
    cold: Group,
}

/// Some of the nodes, by index.
#[derive(Clone, Debug)]
enum Group {
    /// So many, and no others: there is nothing to look up.
    All(usize),
    These(Vec<usize>),
}

impl Default for Group {
    fn default() -> Self {
        Self::All(0)
    }
}

impl Group {
    fn len(&self) -> usize {
        match self {
            Self::All(count) => *count,
            Self::These(indices) => indices.len(),
        }
    }

    fn at(&self, place: usize) -> usize {
        match self {
            Self::All(_) => place,
            Self::These(indices) => indices[place],
        }
    }
}

impl Groups {
    /// For nodes of which each has the model in memory, or not.
    pub fn new(loaded: impl IntoIterator<Item = bool>) -> Self {
        let (mut warm, mut cold) = (Vec::new(), Vec::new());
        for (index, is_loaded) in loaded.into_iter().enumerate() {
            if is_loaded { warm.push(index) } else { cold.push(index) }
        }
        match (warm.len(), cold.len()) {
            (count, 0) => Self { loaded: Group::All(count), cold: Group::default() },
            (0, count) => Self { loaded: Group::default(), cold: Group::All(count) },
            _ => Self { loaded: Group::These(warm), cold: Group::These(cold) },
        }
    }

    /// How many nodes there are.
    pub fn count(&self) -> usize {
        self.loaded.len() + self.cold.len()
    }

    /// The index of a good node for the next request, `None` when none has room. The best one of a few nodes; of many, the
    /// best of some that `turn` draws, so that it takes no longer with a thousand: nodes that work come before others, and of
    /// those the ones that have the model loaded, as with a few.
    pub fn choose(&self, candidate: impl Fn(usize) -> Candidate, turn: usize) -> Option<usize> {
        if self.count() <= FEW {
            return choose(self.count(), candidate, turn);
        }
        let sound = |index: usize| {
            let candidate = candidate(index);
            if candidate.suspect { Candidate { weight: 0, ..candidate } } else { candidate }
        };
        let groups = [&self.loaded, &self.cold].into_iter().filter(|group| group.len() > 0);
        let found = groups.clone().find_map(|group| {
            let draw = |n| group.at((mixed((turn as u64).wrapping_mul(DRAWN) + n) % group.len() as u64) as usize);
            let drawn = (0..DRAWN).map(draw).map(|index| (index, sound(index)));
            let best =
                drawn.filter(|(_, candidate)| candidate.has_room()).min_by_key(|(_, candidate)| candidate.rank());
            // None of those: most are busy, so each one counts.
            let all = || choose(group.len(), |place| sound(group.at(place)), turn).map(|place| group.at(place));
            best.map(|(index, _)| index).or_else(all)
        });
        found.or_else(|| choose(self.count(), candidate, turn))
    }
}

/// Spreads the bits of a number over all of it (the finaliser of `MurmurHash3`).
pub(super) fn mixed(number: u64) -> u64 {
    let mix = |hash: u64, factor: u64| (hash ^ (hash >> 33)).wrapping_mul(factor);
    let mixed = mix(mix(number, 0xff51_afd7_ed55_8ccd), 0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}
