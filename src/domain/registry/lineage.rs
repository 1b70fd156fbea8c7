//! Which version a version was made from, and what can be wrong with that.

use std::{cmp::Ordering, collections::BTreeMap};

use crate::domain::version;

/// The versions of one model, each with the parent that it names.
pub type Parents<'a> = BTreeMap<&'a str, Option<&'a str>>;

/// What is wrong with a version's parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineageFault {
    /// It isn't registered.
    Missing {
        /// The parent.
        parent: String,
    },
    /// By its number it comes after its child.
    Newer {
        /// The parent.
        parent: String,
    },
    /// Following the parents leads back to the version.
    Cycle {
        /// The version, its parent, and so on back to the version.
        path: Vec<String>,
    },
}

impl LineageFault {
    /// The CamelCase reason of the condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "ParentMissing",
            Self::Newer { .. } => "ParentNewer",
            Self::Cycle { .. } => "ParentCycle",
        }
    }

    /// Whether registering another version makes it right.
    pub fn heals(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// What is wrong and what to do about it.
    pub fn advice(&self, model: &str) -> String {
        match self {
            Self::Missing { parent } => {
                format!("its parent {parent} is no version of {model}: register it, or register this one without it")
            }
            Self::Newer { parent } => {
                format!("its parent {parent} is newer than itself: register it with an older parent, or a newer number")
            }
            Self::Cycle { path } => {
                format!(
                    "its parents lead back to itself ({}): register one of them anew without it",
                    path.join(" from ")
                )
            }
        }
    }
}

/// Whether a version may have the parent that it names.
///
/// # Errors
/// What is wrong with it.
pub fn check(version: &str, parents: &Parents<'_>) -> Result<(), LineageFault> {
    let Some(parent) = parents.get(version).copied().flatten() else { return Ok(()) };
    if !parents.contains_key(parent) {
        return Err(LineageFault::Missing { parent: parent.into() });
    }
    let line = ancestors(version, parents);
    let last = line.last().and_then(|last| parents.get(last).copied().flatten());
    if last == Some(version) {
        let path = [version].iter().chain(&line).chain(&[version]).map(|version| (*version).to_owned()).collect();
        return Err(LineageFault::Cycle { path });
    }
    if version::compare(parent, version) == Some(Ordering::Greater) {
        return Err(LineageFault::Newer { parent: parent.into() });
    }
    Ok(())
}

/// The registered parents of a version, the nearest first, each once.
pub fn ancestors<'a>(version: &'a str, parents: &Parents<'a>) -> Vec<&'a str> {
    let (mut line, mut at) = (Vec::new(), version);
    while let Some(parent) = parents.get(at).copied().flatten() {
        if parent == version || line.contains(&parent) || !parents.contains_key(parent) {
            break;
        }
        line.push(parent);
        at = parent;
    }
    line
}
