//! Which nodes have room for two versions of a model at once.
//!
//! Where both don't fit into a node's memory, it would load one in the other's place at every turn. So each has nodes of its
//! own there, like versions that want other runners of the same weights ([`apart`]).

use super::{Claim, apart};

const GIB: f64 = (1u64 << 30) as f64;

/// A node that holds the version that serves, the one on trial, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its name.
    pub node: String,
    /// The bytes that models have there; `None`: nobody knows.
    pub memory: Option<u64>,
    /// The bytes that each version takes there; `None`: it isn't there.
    pub takes: [Option<u64>; 2],
}

impl Site {
    /// Whether what is there fits.
    pub fn fits(&self) -> bool {
        let wanted: u64 = self.takes.iter().flatten().fold(0, |sum, bytes| sum.saturating_add(*bytes));
        self.memory.is_none_or(|memory| wanted <= memory) || self.takes.contains(&None)
    }
}

/// What two versions with these shares of requests want of nodes, for [`apart`].
pub fn claims(name: &str, shares: [u32; 2], sites: &[Site]) -> [Claim; 2] {
    [0, 1].map(|side| {
        let own = sites.iter().filter(|site| site.takes[side].is_some());
        let runner = |site: &Site| if site.fits() { "both".to_owned() } else { format!("side {side}") };
        Claim {
            name: format!("{name} {side}"),
            weights: name.into(),
            share: shares[side],
            runners: own.map(|site| (site.node.clone(), runner(site))).collect(),
        }
    })
}

/// Why two versions can't be served at once, with numbers; `None` when they can, on the same nodes or on nodes of their own.
pub fn no_room(versions: [&str; 2], sites: &[Site]) -> Option<String> {
    let is_cramped = apart(&claims("", [50, 50], sites)).iter().any(|placement| placement.is_cramped);
    let worst = sites.iter().filter(|site| !site.fits()).max_by_key(|site| site.memory)?;
    let [Some(first), Some(second)] = worst.takes else { return None };
    let memory = worst.memory?;
    is_cramped.then(|| {
        let others = match sites.len() {
            1 => "and no other node holds them".to_owned(),
            count => format!("the largest of {count} nodes"),
        };
        format!(
            "{} takes {} and {} takes {}, more than the {} of {}, {others}: add a node for one of them, or set \
             strategy.immediate",
            versions[0],
            gib(first),
            versions[1],
            gib(second),
            gib(memory),
            worst.node
        )
    })
}

fn gib(bytes: u64) -> String {
    let size = bytes as f64 / GIB;
    if size >= 0.1 { format!("{size:.1} GiB") } else { format!("{:.1} MiB", size * 1024.0) }
}
