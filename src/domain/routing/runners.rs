//! Which nodes run which of the versions that share weights.
//!
//! Ollama keeps one runner for a file of weights. Versions that want it run differently make a node load the model anew
//! at every turn, so they get nodes of their own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use super::affinity::{Seat, hash, score};

/// The options that a runner is made with: with another value of one, Ollama makes another runner.
const RUNNER_OPTIONS: [&str; 6] = ["num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread"];

/// So many versions are named in a sentence.
const NAMED: usize = 4;

/// A version that nodes hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Deployment and version, unlike all others.
    pub name: String,
    /// The weights that it runs.
    pub weights: String,
    /// Its percent of its deployment's requests.
    pub share: u32,
    /// By node: the runner that it wants there.
    pub runners: BTreeMap<String, String>,
}

/// Where a version runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The nodes.
    pub nodes: BTreeSet<String>,
    /// Whether there are not enough nodes: on one of these, others have the model run differently.
    pub is_cramped: bool,
}

/// That there are not enough nodes for a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The claims concerned, by their places: the version's, and of those that have its nodes.
    pub claims: Vec<usize>,
    /// What that means and what to do, with numbers.
    pub message: String,
}

/// The runner for a version with these parameters on a node with this context window of its own.
pub fn runner<V: Display>(parameters: &BTreeMap<String, V>, node_window: Option<u32>) -> String {
    let set = RUNNER_OPTIONS.iter().filter_map(|name| {
        let own = || node_window.filter(|_| *name == "num_ctx").map(|window| window.to_string());
        let value = parameters.get(*name).map(V::to_string).or_else(own)?;
        // 4096 and 4096.0 are the same.
        let value = value.parse::<f64>().map_or(value, |number| number.to_string());
        Some(format!("{name} {value}"))
    });
    let set: Vec<_> = set.collect();
    if set.is_empty() { "the node's own options".into() } else { set.join(", ") }
}

/// Where each version runs, in the order of the claims: on no node are two that share weights and want another runner, if
/// there are enough nodes. Each keeps at least one node; the others go by shares. The same for the same claims, and a
/// node that comes or goes moves few others (rendezvous hashing).
pub fn apart(claims: &[Claim]) -> Vec<Placement> {
    let mut placements = vec![Placement::default(); claims.len()];
    let mut by_weights: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, claim) in claims.iter().enumerate() {
        by_weights.entry(&claim.weights).or_default().push(index);
    }
    for group in by_weights.into_values() {
        place(claims, &group, &mut placements);
    }
    placements
}

/// Which versions have no node that runs them alone, as [`apart`] placed them.
pub fn shortages(claims: &[Claim], placements: &[Placement]) -> Vec<Shortage> {
    let cramped = placements.iter().enumerate().filter(|(_, placement)| placement.is_cramped);
    let shortage = |(index, placement): (usize, &Placement)| {
        let own = &claims[index];
        let takes = |other: &usize| {
            let differs = |(node, runner)| claims[*other].runners.get(node).is_some_and(|theirs| theirs != runner);
            let mut nodes = own.runners.iter().filter(|(node, _)| placements[*other].nodes.contains(*node));
            claims[*other].weights == own.weights && nodes.any(differs)
        };
        let concerned: Vec<usize> = [index].into_iter().chain((0..claims.len()).filter(takes)).collect();
        let message = not_enough(claims, &concerned, placement);
        Shortage { claims: concerned, message }
    };
    cramped.map(shortage).collect()
}

fn not_enough(claims: &[Claim], concerned: &[usize], placement: &Placement) -> String {
    let own = &claims[concerned[0]];
    let node = placement.nodes.first().map_or("", String::as_str);
    let told = |index: &usize| {
        let claim = &claims[*index];
        // Each has one of the nodes in common.
        let runner = claim.runners.iter().find(|(node, _)| own.runners.contains_key(*node)).map(|(_, runner)| runner);
        format!("{} ({})", claim.name, runner.map_or("", String::as_str))
    };
    let named: Vec<String> = concerned.iter().take(NAMED).map(told).collect();
    let more = match concerned.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let held = match own.runners.len() {
        1 => format!("1 node holds {}", own.name),
        count => format!("{count} nodes hold {}", own.name),
    };
    format!(
        "{}{more} run the same weights differently, and there are not enough nodes to keep them apart: {held}, so {node} may \
         load the model again and again; bring it to one more node, or give them the same options",
        named.join(", ")
    )
}

fn place(claims: &[Claim], group: &[usize], placements: &mut [Placement]) {
    let mut wanted: BTreeMap<&str, BTreeMap<&str, u32>> = BTreeMap::new();
    for claim in group.iter().map(|index| &claims[*index]) {
        for (node, runner) in &claim.runners {
            *wanted.entry(node).or_default().entry(runner).or_default() += claim.share;
        }
    }
    let uncontested = wanted.iter().filter(|(_, runners)| runners.len() == 1);
    let mut owners: BTreeMap<&str, &str> =
        uncontested.filter_map(|(node, runners)| Some((*node, *runners.keys().next()?))).collect();
    // Who has the least choice goes first.
    let mut order = group.to_vec();
    order.sort_by_key(|index| (claims[*index].runners.len(), &claims[*index].name));
    for index in order {
        let claim = &claims[index];
        if claim.runners.iter().any(|(node, runner)| owners.get(&**node) == Some(&&**runner)) {
            continue;
        }
        match favourite(claim, |node| !owners.contains_key(node)) {
            Some((node, runner)) => drop(owners.insert(node, runner)),
            None => placements[index] = cramped(claim),
        }
    }
    for (node, runners) in &wanted {
        owners.entry(node).or_insert_with(|| owner(node, runners));
    }
    for index in group {
        let own = claims[*index].runners.iter().filter(|(node, runner)| owners.get(&***node) == Some(&&***runner));
        placements[*index].nodes.extend(own.map(|(node, _)| node.clone()));
    }
}

/// Of a version's nodes that are `free`, the one that it would have first.
fn favourite(claim: &Claim, free: impl Fn(&str) -> bool) -> Option<(&str, &str)> {
    let key = hash(claim.name.bytes());
    let free = claim.runners.iter().filter(|(node, _)| free(node));
    let first = free.max_by(|(a, _), (b, _)| rank(key, a, 1).total_cmp(&rank(key, b, 1)));
    first.map(|(node, runner)| (node.as_str(), runner.as_str()))
}

fn cramped(claim: &Claim) -> Placement {
    let nodes: BTreeSet<_> = favourite(claim, |_| true).map(|(node, _)| node.to_owned()).into_iter().collect();
    Placement { is_cramped: !nodes.is_empty(), nodes }
}

/// The runner that a contested node has, by the shares of those who want one.
fn owner<'a>(node: &str, runners: &BTreeMap<&'a str, u32>) -> &'a str {
    let rank = |(runner, share): (&&str, &u32)| rank(hash(runner.bytes()), node, (*share).max(1));
    let first = runners.iter().max_by(|a, b| rank(*a).total_cmp(&rank(*b)));
    first.map_or("", |(runner, _)| *runner)
}

fn rank(key: u64, node: &str, weight: u32) -> f64 {
    score(key, Seat { hash: hash(node.bytes()), weight })
}
