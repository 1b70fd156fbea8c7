//! How long a gateway serves canaries without proof that it follows the API.

use std::time::Duration;

use drover::{
    routing_table::lease::{Lease, Sight, Versions},
    settings::{Layer, Settings, layered},
};
use proptest::{collection::hash_map, prelude::*};
use tokio::time::Instant;

fn versions(objects: &[(&str, u64)]) -> Versions {
    objects.iter().map(|(name, version)| (("default".into(), (*name).into()), *version)).collect()
}

fn sight(version: u64, objects: &[(&str, u64)]) -> Sight {
    Sight { version, objects: versions(objects) }
}

fn stored() -> impl Strategy<Value = Versions> {
    hash_map(("[ab]", "[a-e]"), 1..50u64, 0..6)
}

/// The lease that a gateway has without any setting.
fn usual() -> Lease {
    let nothing = Layer::new();
    Lease::new(Settings::new(&layered(&nothing, &nothing, &nothing)).unwrap().canary_lease)
}

#[test]
fn a_gateway_that_hears_nothing_for_sixty_seconds_serves_no_canary() {
    let (mut lease, start, seconds) = (usual(), Instant::now(), Duration::from_secs);
    assert!(!lease.holds(start), "nothing is proven yet");
    assert_eq!(lease.beat(), seconds(10));
    lease.expect(start, sight(7, &[("bot", 5)]));
    assert!(!lease.renew(&Versions::new()) && !lease.holds(start), "the watch has not brought it yet");
    assert!(lease.renew(&versions(&[("bot", 5)])));
    assert!(lease.holds(start) && lease.holds(start + Duration::from_millis(59_999)));
    assert!(!lease.holds(start + seconds(60)));
    assert!(!lease.expect(start + seconds(10), sight(8, &[("bot", 5)])));
    lease.renew(&versions(&[("bot", 5)]));
    assert!(lease.holds(start + seconds(69)) && !lease.holds(start + seconds(70)), "counted from the question");
}

#[test]
fn a_watch_that_is_dead_while_the_api_answers_renews_nothing() {
    let (mut lease, start) = (usual(), Instant::now());
    let old = versions(&[("bot", 5)]);
    lease.expect(start, sight(5, &[("bot", 5)]));
    assert!(lease.renew(&old));
    for beat in 1..=6 {
        let lags = lease.expect(start + lease.beat() * beat, sight(9, &[("bot", 9)]));
        assert_eq!(lags, beat > 1, "one beat is for events under way");
        assert!(!lease.renew(&old));
    }
    assert!(!lease.holds(start + Duration::from_secs(60)));
    assert!(lease.renew(&versions(&[("bot", 10)])), "what came later is as good");
    assert!(lease.holds(start + Duration::from_secs(60)));
}

#[test]
fn a_store_has_what_the_api_had_if_it_misses_nothing_and_keeps_nothing_that_was_deleted() {
    let seen = sight(10, &[("a", 4), ("b", 10)]);
    for (stored, expected) in [
        (versions(&[("a", 4), ("b", 10)]), true),
        (versions(&[("a", 4), ("b", 9)]), false),
        (versions(&[("a", 4)]), false),
        (versions(&[("a", 12), ("b", 10), ("made-later", 11)]), true),
        (versions(&[("a", 4), ("b", 10), ("deleted", 8)]), false),
    ] {
        assert_eq!(seen.is_in(&stored), expected, "{stored:?}");
    }
}

proptest! {
    #[test]
    fn a_store_that_follows_has_it_and_one_that_missed_a_write_has_not(
        stored in stored(), key in ("[ab]", "[a-e]"),
    ) {
        let version = stored.values().copied().max().unwrap_or(0);
        let now = Sight { version, objects: stored.clone() };
        prop_assert!(now.is_in(&stored));
        let mut later = now.clone();
        later.version += 1;
        later.objects.insert(key.clone(), later.version);
        prop_assert!(!later.is_in(&stored), "a write is missing");
        let mut gone = now;
        if gone.objects.remove(&key).is_some() {
            prop_assert!(!gone.is_in(&stored), "a deletion is missing");
        }
    }
}
