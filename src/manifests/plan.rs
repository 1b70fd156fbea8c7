//! What to apply, in which order, and what may be deleted: pure.

use std::collections::{BTreeMap, BTreeSet};

use super::documents::{Fault, Place};
use crate::cluster::{Identity, Known, Present};

/// Objects whose kinds the API has, each once, in the order in which they are applied.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The objects.
    pub objects: Vec<(Place, Known)>,
    /// Objects that stand in two places: the first one counts.
    pub faults: Vec<Fault>,
}

/// Puts objects into the order in which they are applied.
pub fn wanted(recognised: Vec<(Place, Known)>) -> Wanted {
    let mut first: BTreeMap<Identity, Place> = BTreeMap::new();
    let mut wanted = Wanted::default();
    for (place, known) in recognised {
        if let Some(earlier) = first.get(&known.identity) {
            let why = format!("{} stands already in {earlier}, which counts: remove one of them", known.identity);
            wanted.faults.push(Fault { place, why });
        } else {
            first.insert(known.identity.clone(), place.clone());
            wanted.objects.push((place, known));
        }
    }
    // The sort keeps the order of the files otherwise.
    wanted.objects.sort_by_key(|(_, known)| rank(&known.identity));
    wanted
}

/// What others are in comes first, then what others refer to.
fn rank(identity: &Identity) -> u8 {
    match identity.kind.as_str() {
        "Namespace" if identity.group.is_empty() => 0,
        "Secret" | "ConfigMap" if identity.group.is_empty() => 1,
        _ => 2,
    }
}

/// Which objects are deleted because they stand in the folder no longer.
///
/// # Errors
/// Why none may be: it is not sure what stands there.
pub fn vanished(own: Vec<Present>, wanted: &BTreeSet<Identity>, unread: &[Fault]) -> Result<Vec<Present>, String> {
    let mut gone: Vec<Present> = own.into_iter().filter(|present| !wanted.contains(&present.identity)).collect();
    if gone.is_empty() {
        return Ok(gone);
    }
    let count = gone.len();
    if let Some(fault) = unread.first() {
        return Err(format!("{count} objects that are not found there are kept until all of it can be read: {fault}"));
    }
    if wanted.is_empty() {
        return Err(format!(
            "it holds no manifest at all, as a folder does that is not mounted; so the {count} objects that came from it \
             are kept: if that is not what you want, `kubectl delete` them"
        ));
    }
    gone.sort_by_key(|present| std::cmp::Reverse(rank(&present.identity)));
    Ok(gone)
}
