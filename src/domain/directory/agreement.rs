//! What is told of a choice that each gateway makes for itself.

use std::{cmp::Reverse, collections::BTreeMap};

/// What gateways chose, each by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// What most of them chose; of as many, the first by name.
    pub chosen: String,
    /// What the others chose, by name; nothing: they agree.
    pub others: Vec<String>,
}

impl Agreement {
    /// Of these choices, one by gateway; `None` where nobody chose.
    pub fn of(choices: impl IntoIterator<Item = String>) -> Option<Self> {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        choices.into_iter().for_each(|model| *counts.entry(model).or_default() += 1);
        let (chosen, _) = counts.iter().min_by_key(|(_, count)| Reverse(**count))?;
        let chosen = chosen.clone();
        Some(Self { others: counts.into_keys().filter(|model| *model != chosen).collect(), chosen })
    }
}
