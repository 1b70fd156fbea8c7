//! The split between versions and the choice of a node.

use drover::domain::routing::{Candidate, choose, is_canary_session, is_canary_turn, session_hash};
use proptest::prelude::*;

fn candidate() -> impl Strategy<Value = Candidate> {
    (0..6u32, 0..5u32, 0..300u32, any::<bool>(), any::<bool>())
        .prop_map(|(in_flight, limit, weight, loaded, suspect)| Candidate { in_flight, limit, weight, loaded, suspect })
}

fn has_room(candidate: &Candidate) -> bool {
    candidate.weight > 0 && candidate.in_flight < candidate.limit
}

proptest! {
    #[test]
    fn every_run_of_turns_has_the_canarys_share_to_within_one(
        start in any::<u32>(), length in 0..1000u64, weight in 0..=100u8,
    ) {
        let start = u64::from(start);
        let canary = (start..start + length).filter(|turn| is_canary_turn(*turn, weight)).count() as f64;
        let share = length as f64 * f64::from(weight) / 100.0;
        prop_assert!((canary - share).abs() <= 1.0, "{canary} of {length} at {weight} %");
    }

    #[test]
    fn every_hundred_turns_have_exactly_the_canarys_share(start in any::<u32>(), weight in 0..=100u8) {
        let start = u64::from(start);
        let canary = (start..start + 100).filter(|turn| is_canary_turn(*turn, weight)).count();
        prop_assert_eq!(canary, usize::from(weight));
    }

    #[test]
    fn a_session_never_leaves_the_canary_while_the_weight_grows(
        rollout in ".{0,40}", session in any::<Vec<u8>>(), mut weights in prop::collection::vec(0..=100u8, 1..8),
    ) {
        weights.sort_unstable();
        let hash = session_hash(&rollout, &session);
        let sides: Vec<bool> = weights.iter().map(|weight| is_canary_session(hash, *weight)).collect();
        prop_assert!(sides.is_sorted(), "{sides:?} at {weights:?}");
        prop_assert!(is_canary_session(hash, 100) && !is_canary_session(hash, 0));
    }

    #[test]
    fn the_chosen_node_has_room_and_works_if_any_with_room_works(
        candidates in prop::collection::vec(candidate(), 0..8), turn in any::<usize>(),
    ) {
        let Some(chosen) = choose(&candidates, turn) else {
            prop_assert!(!candidates.iter().any(has_room));
            return Ok(());
        };
        let chosen = &candidates[chosen];
        prop_assert!(has_room(chosen));
        if chosen.suspect {
            prop_assert!(candidates.iter().filter(|c| has_room(c)).all(|c| c.suspect));
        } else if !chosen.loaded {
            prop_assert!(candidates.iter().filter(|c| has_room(c) && !c.suspect).all(|c| !c.loaded));
        }
    }

    #[test]
    fn equal_nodes_take_turns(count in 1..6usize, turn in 0..usize::MAX - 10) {
        let free = Candidate { in_flight: 0, limit: 1, weight: 100, loaded: true, suspect: false };
        let candidates = vec![free; count];
        let mut chosen: Vec<_> = (turn..turn + count).filter_map(|turn| choose(&candidates, turn)).collect();
        chosen.sort_unstable();
        prop_assert_eq!(chosen, (0..count).collect::<Vec<_>>());
    }
}

#[test]
fn sessions_spread_evenly_and_the_hash_never_changes() {
    for weight in [1, 20, 50, 99] {
        let canary = (0..20_000)
            .filter(|n| is_canary_session(session_hash("rollout-1", format!("session-{n}").as_bytes()), weight))
            .count() as f64;
        let share = 20_000.0 * f64::from(weight) / 100.0;
        assert!((canary - share).abs() < 4.0 * (share * (1.0 - share / 20_000.0)).sqrt(), "{canary} at {weight} %");
    }
    let sides = |rollout: &str| {
        (0..1000).filter(|n: &u32| is_canary_session(session_hash(rollout, &n.to_le_bytes()), 20)).collect::<Vec<_>>()
    };
    assert_ne!(sides("a"), sides("b"), "another rollout draws anew");
    assert_eq!(session_hash("r1", b"alice"), 511_843_375_439_042_707);
}
