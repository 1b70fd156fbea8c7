//! Which objects `drover up` makes for providers whose keys are in the environment.

use std::collections::BTreeMap;

use super::{CATALOGUE, Known};

/// A provider's object that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Its base URL.
    pub url: String,
    /// Whether `drover up` made it.
    pub is_own: bool,
}

/// What to do about them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Providers to make an object for.
    pub apply: Vec<&'static Known>,
    /// Names of objects that are wanted no longer.
    pub delete: Vec<String>,
}

/// Every known provider with a key gets an object, unless somebody wrote one of that name or for that server; the
/// objects of the others, if `drover up` made them, go.
pub fn changes(has_key: impl Fn(&str) -> bool, there: &BTreeMap<String, Present>) -> Changes {
    let is_declared = |known: &Known| {
        let mut others = there.iter().filter(|(_, present)| !present.is_own);
        others.any(|(name, present)| name == known.name || present.url.trim_end_matches('/') == known.url)
    };
    let apply: Vec<_> = CATALOGUE.iter().filter(|known| has_key(known.variable) && !is_declared(known)).collect();
    let own = there.iter().filter(|(_, present)| present.is_own).map(|(name, _)| name);
    let delete = own.filter(|name| !apply.iter().any(|known| known.name == **name)).cloned().collect();
    Changes { apply, delete }
}
