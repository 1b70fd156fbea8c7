//! Turns for what many want to do at the same moment.

use std::time::Duration;

use drover::domain::pace::Pace;
use proptest::{collection::vec, prelude::*};

const EVERY: Duration = Duration::from_millis(100);

#[test]
fn whoever_asks_alone_has_its_turn_at_once_and_of_many_each_waits_for_the_one_before() {
    let (mut pace, now) = (Pace::new(EVERY), Duration::from_secs(7));
    assert_eq!(pace.wait(&"a", now), None);
    assert_eq!(pace.wait(&"b", now), Some(EVERY));
    assert_eq!(pace.wait(&"c", now), Some(2 * EVERY));
    assert_eq!(pace.wait(&"b", now + EVERY / 2), Some(EVERY / 2), "asking again keeps the turn");
    assert_eq!(pace.wait(&"b", now + EVERY), None);
    assert_eq!(pace.wait(&"c", now + 5 * EVERY), None, "a turn that has passed is as good");
    assert_eq!(pace.wait(&"b", now + 5 * EVERY), None);
    pace.wait(&"d", now + 5 * EVERY);
    pace.forget(&"d");
    assert_eq!(pace.wait(&"d", now + 5 * EVERY), Some(2 * EVERY), "who gave up its turn asks for a new one");
}

proptest! {
    #[test]
    fn everybody_who_comes_when_told_is_served_and_never_more_than_one_in_an_interval(
        arrivals in vec(0..2000u64, 1..40),
    ) {
        let mut pace = Pace::new(EVERY);
        let mut waiting: Vec<(Duration, usize)> =
            arrivals.iter().enumerate().map(|(who, at)| (Duration::from_millis(*at), who)).collect();
        let mut served = Vec::new();
        while !waiting.is_empty() {
            waiting.sort_unstable();
            let (now, who) = waiting.remove(0);
            match pace.wait(&who, now) {
                None => served.push(now),
                Some(wait) => waiting.push((now + wait, who)),
            }
        }
        prop_assert_eq!(served.len(), arrivals.len());
        prop_assert!(served.windows(2).all(|pair| pair[1] - pair[0] >= EVERY), "{:?}", served);
        let last = Duration::from_millis(arrivals.iter().copied().max().unwrap_or(0)) + EVERY * arrivals.len() as u32;
        prop_assert!(served.iter().all(|at| *at <= last));
    }
}
