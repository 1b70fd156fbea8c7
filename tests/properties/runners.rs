//! Versions that share weights, but not the way they are run, do not meet on a node.

use std::collections::{BTreeMap, BTreeSet};

use drover::domain::routing::{Claim, Placement, apart, runner, shortages};
use proptest::{
    collection::{btree_map, vec},
    prelude::*,
};
use serde_json::{Value, json};

fn claims() -> impl Strategy<Value = Vec<Claim>> {
    let runners = btree_map((0..8u8).prop_map(|n| format!("n{n}")), 0..4u8, 0..8);
    let claim = (0..2u8, 0..100u32, 0..3u8, runners);
    vec(claim, 0..5).prop_map(|claims| {
        let claims = claims.into_iter().enumerate();
        claims
            .map(|(index, (weights, share, usual, runners))| Claim {
                name: format!("bot v{index}"),
                weights: format!("sha256:{weights}"),
                share,
                // Mostly the same everywhere; the window of some node makes another one of it.
                runners: runners
                    .into_iter()
                    .map(|(node, odd)| (node, format!("num_ctx {}", if odd == 3 { 9 } else { usual })))
                    .collect(),
            })
            .collect()
    })
}

fn same_weights<'a>(claims: &'a [Claim], claim: &'a Claim) -> impl Iterator<Item = &'a Claim> {
    claims.iter().filter(|other| other.weights == claim.weights)
}

/// Who runs on a node with these weights, by the runners that they want.
fn on<'a>(claims: &'a [Claim], placements: &[Placement], weights: &str, node: &str) -> BTreeSet<&'a str> {
    let there = claims.iter().zip(placements).filter(|(claim, placement)| {
        claim.weights == weights && !placement.is_cramped && placement.nodes.contains(node)
    });
    there.map(|(claim, _)| claim.runners[node].as_str()).collect()
}

proptest! {
    #[test]
    fn no_node_alternates_between_runners_if_there_are_enough_nodes(claims in claims()) {
        let placements = apart(&claims);
        prop_assert_eq!(placements.len(), claims.len());
        for (claim, placement) in claims.iter().zip(&placements) {
            prop_assert_eq!(placement.nodes.is_empty(), claim.runners.is_empty(), "who has nodes keeps one");
            for node in &placement.nodes {
                prop_assert!(claim.runners.contains_key(node), "only nodes that hold it");
                prop_assert!(on(&claims, &placements, &claim.weights, node).len() <= 1);
            }
            let rivals = same_weights(&claims, claim).count();
            prop_assert!(!placement.is_cramped || claim.runners.len() < rivals, "{claim:?} is cramped");
            prop_assert!(!placement.is_cramped || placement.nodes.len() == 1);
            let disagree = |(node, wanted): (&String, &String)| {
                same_weights(&claims, claim).any(|other| other.runners.get(node).is_some_and(|theirs| theirs != wanted))
            };
            if !claim.runners.iter().any(disagree) {
                prop_assert!(placement.nodes.iter().eq(claim.runners.keys()), "nobody wants anything else there");
            }
        }
    }

    #[test]
    fn every_node_of_a_version_stays_in_use(claims in claims()) {
        let placements = apart(&claims);
        for claim in &claims {
            for node in claim.runners.keys() {
                prop_assert_eq!(on(&claims, &placements, &claim.weights, node).len(), 1, "{}", node);
            }
        }
    }

    #[test]
    fn who_is_cramped_is_told_with_those_that_have_its_nodes(claims in claims()) {
        let placements = apart(&claims);
        let short = shortages(&claims, &placements);
        prop_assert_eq!(short.len(), placements.iter().filter(|placement| placement.is_cramped).count());
        for found in short {
            let own = &claims[found.claims[0]];
            prop_assert!(placements[found.claims[0]].is_cramped && found.claims.len() > 1, "{found:?}");
            for (node, wanted) in &own.runners {
                let takes = |other: &usize| {
                    placements[*other].nodes.contains(node) && claims[*other].runners[node] != *wanted
                };
                prop_assert!(found.claims[1..].iter().any(takes), "nobody told has {node}: {found:?}");
            }
            for claim in found.claims.iter().take(4).map(|index| &claims[*index]) {
                prop_assert!(claim.weights == own.weights && found.message.contains(&claim.name), "{found:?}");
            }
        }
    }

    #[test]
    fn the_order_of_claims_does_not_matter_and_a_node_that_goes_moves_few(claims in claims(), gone in 0..8u8) {
        let placements = apart(&claims);
        let reversed: Vec<_> = claims.iter().rev().cloned().collect();
        let mut again = apart(&reversed);
        again.reverse();
        prop_assert_eq!(&again, &placements);
        let gone = format!("n{gone}");
        let mut fewer = claims.clone();
        fewer.iter_mut().for_each(|claim| drop(claim.runners.remove(&gone)));
        let after = apart(&fewer);
        for weights in ["sha256:0", "sha256:1"] {
            let nodes = (0..8).map(|n| format!("n{n}")).filter(|node| *node != gone);
            let moved = nodes.filter(|node| on(&claims, &placements, weights, node) != on(&fewer, &after, weights, node));
            prop_assert!(moved.count() <= 2 * claims.len());
        }
    }

    #[test]
    fn a_runner_is_its_options_whatever_else_a_version_sets(
        window in prop::option::of(1..100u32), node in prop::option::of(1..100u32), temperature in 0.0..2.0,
    ) {
        let mut parameters: BTreeMap<String, Value> = [("temperature".to_owned(), json!(temperature))].into();
        parameters.extend(window.map(|window| ("num_ctx".to_owned(), json!(window))));
        let expected = runner(&BTreeMap::<String, Value>::new(), window.or(node));
        prop_assert_eq!(runner(&parameters, node), expected);
        parameters.insert("num_batch".into(), json!(7));
        prop_assert_ne!(runner(&parameters, node), runner(&BTreeMap::<String, Value>::new(), window.or(node)));
    }
}

#[test]
fn a_canary_with_another_window_gets_nodes_by_its_share() {
    let claim = |version: &str, share, window: u32| Claim {
        name: format!("bot {version}"),
        weights: "sha256:1".into(),
        share,
        runners: (0..100).map(|n| (format!("n{n}"), format!("num_ctx {window}"))).collect(),
    };
    for (weight, expected) in [(1, 1..=6), (20, 10..=32), (50, 35..=65), (99, 94..=99)] {
        let placements = apart(&[claim("v1", 100 - weight, 4096), claim("v2", weight, 8192)]);
        let count = placements[1].nodes.len();
        assert!(expected.contains(&count), "{count} of 100 nodes for {weight} %");
        assert_eq!(placements[0].nodes.len() + count, 100);
    }
}

#[test]
fn too_few_nodes_are_told_with_numbers() {
    let claim = |version: &str, window: u32, nodes: &[&str]| Claim {
        name: format!("bot {version}"),
        weights: "sha256:1".into(),
        share: 50,
        runners: nodes.iter().map(|node| ((*node).to_owned(), format!("num_ctx {window}"))).collect(),
    };
    let told = |claims: &[Claim]| shortages(claims, &apart(claims)).into_iter().map(|short| short.message).next();
    let [old, new] = [("v1", 512), ("v2", 1024)].map(|(version, window)| claim(version, window, &["n1"]));
    assert_eq!(told(&[old.clone(), claim("v2", 1024, &["n1", "n2"])]), None);
    assert_eq!(
        told(&[old, new]).as_deref(),
        Some(
            "bot v2 (num_ctx 1024), bot v1 (num_ctx 512) run the same weights differently, and there are not enough nodes to \
             keep them apart: 1 node holds bot v2, so n1 may load the model again and again; bring it to one more node, or \
             give them the same options"
        )
    );
}
