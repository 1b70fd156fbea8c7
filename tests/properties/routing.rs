//! The split between versions and the choice of a node.

use std::{collections::BTreeMap, time::Duration};

use drover::domain::routing::{
    Candidate, Ending, FEW, Groups, Health, SHORTLIST, Seat, Standing, choose, hash, is_canary_session, is_canary_turn,
    session_hash, settle, shortlist,
};
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
        let Some(chosen) = choose(candidates.len(), |index| candidates[index], turn) else {
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
        let mut chosen: Vec<_> = (turn..turn + count).filter_map(|turn| choose(count, |_| free, turn)).collect();
        chosen.sort_unstable();
        prop_assert_eq!(chosen, (0..count).collect::<Vec<_>>());
    }
}

fn seats() -> impl Strategy<Value = Vec<Seat>> {
    prop::collection::vec((any::<u64>(), 0..300u32).prop_map(|(hash, weight)| Seat { hash, weight }), 0..40)
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![Just(Ending::Answered), Just(Ending::Failed), Just(Ending::Lost)]
}

proptest! {
    #[test]
    fn of_many_nodes_one_that_works_and_is_loaded_is_drawn_if_there_is_one_with_room(
        candidates in prop::collection::vec(candidate(), 0..60), turn in any::<usize>(),
    ) {
        let groups = Groups::new(candidates.iter().map(|candidate| candidate.loaded));
        let Some(chosen) = groups.choose(|index| candidates[index], turn) else {
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
    fn drawing_keeps_many_nodes_evenly_busy(count in FEW + 1..200, start in any::<u32>()) {
        let mut in_flight = vec![0_u32; count];
        let groups = Groups::new((0..count).map(|_| true));
        for turn in 0..count * 3 {
            let at = |index: usize| Candidate { in_flight: in_flight[index], limit: 9, weight: 1, loaded: true, suspect: false };
            let chosen = groups.choose(at, start as usize + turn).expect("there is room");
            in_flight[chosen] += 1;
        }
        prop_assert!(in_flight.iter().all(|n| *n <= 5), "three each, and at most five: {in_flight:?}");
    }

    #[test]
    fn a_node_that_goes_moves_only_its_own_sessions(seats in seats(), session in any::<u64>(), gone in any::<prop::sample::Index>()) {
        let before = shortlist(session, &seats);
        prop_assert!(before.iter().all(|index| seats[*index].weight > 0));
        prop_assert_eq!(before.len(), seats.iter().filter(|seat| seat.weight > 0).count().min(SHORTLIST));
        prop_assume!(before.len() > 1);
        let gone = gone.index(seats.len());
        let mut fewer = seats.clone();
        fewer[gone].weight = 0;
        let expected = before.iter().copied().filter(|index| *index != gone);
        let after = shortlist(session, &fewer);
        prop_assert!(expected.eq(after.into_iter().take(before.len() - usize::from(before.contains(&gone)))));
    }

    #[test]
    fn a_session_is_where_there_is_room_and_no_node_has_much_more_than_its_share(
        candidates in prop::collection::vec(candidate(), 0..SHORTLIST),
    ) {
        let order: Vec<usize> = (0..candidates.len()).collect();
        let fine = |c: &Candidate| has_room(c) && !c.suspect;
        let Some(chosen) = settle(&order, |index| candidates[index]) else {
            let idle = |c: &Candidate| fine(c) && c.in_flight == 0;
            prop_assert!(!candidates.iter().any(idle), "an idle node is never too busy");
            return Ok(());
        };
        let chosen = &candidates[chosen];
        prop_assert!(fine(chosen));
        let usable: Vec<_> = candidates.iter().filter(|c| c.weight > 0 && !c.suspect).collect();
        let total = 1 + usable.iter().map(|c| u64::from(c.in_flight)).sum::<u64>();
        let weights = usable.iter().map(|c| u64::from(c.weight)).sum::<u64>();
        let share = total as f64 * f64::from(chosen.weight) / weights as f64;
        prop_assert!(f64::from(chosen.in_flight) <= 1.25 * share + 1e-9, "{chosen:?} of {candidates:?}");
    }

    #[test]
    fn an_answer_makes_a_node_sound_and_only_failures_in_a_row_put_it_aside(
        endings in prop::collection::vec((ending(), 0..100_000u64), 0..60),
    ) {
        let (mut health, mut now, mut row) = (Health::default(), Duration::ZERO, 0);
        for (ending, pause) in endings {
            now += Duration::from_millis(pause);
            health = health.after(ending, now);
            row = if ending == Ending::Answered { 0 } else { row + 1 };
            match ending {
                Ending::Answered => prop_assert_eq!(health, Health::default()),
                Ending::Lost => prop_assert_eq!(health.standing(now), Standing::Aside),
                Ending::Failed => prop_assert!(row < 5 || health.standing(now) == Standing::Aside),
            }
            if health.standing(now) != Standing::Sound {
                prop_assert!(row > 0);
                prop_assert_eq!(health.standing(now + Duration::from_secs(61)), Standing::OnTrial, "never for long");
            }
        }
    }
}

#[test]
fn each_node_is_first_for_its_share_of_the_sessions() {
    let weights = [100, 100, 200, 50, 0];
    let seat =
        |(index, weight): (usize, &u32)| Seat { hash: hash(format!("default/node-{index}").bytes()), weight: *weight };
    let seats: Vec<Seat> = weights.iter().enumerate().map(seat).collect();
    let mut first = BTreeMap::new();
    for session in 0..45_000_u32 {
        *first.entry(shortlist(hash(session.to_le_bytes()), &seats)[0]).or_insert(0_i32) += 1;
    }
    assert_eq!(first.len(), 4);
    for (index, count) in first {
        let share = 100 * weights[index] as i32;
        assert!((count - share).abs() < 5 * (share as f64).sqrt() as i32, "node {index}: {count} of {share}");
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
