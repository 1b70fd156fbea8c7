//! Ranges of bytes: sets are exact, and every missing byte is brought by exactly one request.

use std::{collections::BTreeSet, ops::Range};

use drover::domain::ranges::{NEAR, Ranges, Running, Supply, supply};
use proptest::{collection::vec, prelude::*};

fn range() -> impl Strategy<Value = Range<u64>> {
    (0..40u64, 0..12u64).prop_map(|(start, length)| start..start + length)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_set_holds_what_was_put_into_it(ranges in vec(range(), 0..9)) {
        let set = Ranges::of(ranges.clone());
        let bytes: BTreeSet<u64> = ranges.into_iter().flatten().collect();
        prop_assert_eq!(set.len(), bytes.len() as u64);
        prop_assert_eq!(set.is_empty(), bytes.is_empty());
        let kept: Vec<Range<u64>> = set.iter().collect();
        prop_assert!(kept.windows(2).all(|pair| pair[0].end < pair[1].start), "{:?} touch", kept);
        for at in 0..60 {
            let run = (at..60).take_while(|byte| bytes.contains(byte)).count() as u64;
            prop_assert_eq!(set.run(at), run);
            let start = (at..60).find(|byte| !bytes.contains(byte));
            let gap = start.map(|start| start..(start..60).find(|byte| bytes.contains(byte)).unwrap_or(60));
            prop_assert_eq!(set.gap(at, 60), gap);
        }
    }

    /// Readers ask at random places, requests advance at random: no byte is ever requested twice, and all come.
    #[test]
    fn every_byte_is_requested_once(
        size in 1..300_000_000u64, asks in vec((any::<u64>(), any::<u8>(), 0..=100u64), 1..40),
    ) {
        let (mut have, mut running) = (Ranges::default(), Vec::<Running>::new());
        let mut next = 0;
        let mut step = |at: u64, have: &mut Ranges, running: &mut Vec<Running>| -> Result<(), TestCaseError> {
            if have.run(at) > 0 {
                return Ok(());
            }
            match supply(at, size, have, running) {
                Supply::Join(id) => {
                    let joined = running.iter().find(|request| request.id == id).expect("a request under way");
                    prop_assert!((joined.at..joined.end).contains(&at) && at - joined.at <= NEAR);
                }
                Supply::Start { range, shorten } => {
                    prop_assert!(range.contains(&at) && range.end <= size);
                    for request in running.iter_mut().filter(|request| Some(request.id) == shorten) {
                        prop_assert!((request.at..request.end).contains(&range.start));
                        request.end = range.start;
                    }
                    let free = |other: &Running| other.end <= range.start || range.end <= other.at;
                    prop_assert!(running.iter().all(free), "{:?} and {:?}", range, running);
                    prop_assert!(have.gap(range.start, size) .is_some_and(|gap| gap.start == range.start && gap.end >= range.end));
                    next += 1;
                    running.push(Running { id: next, at: range.start, end: range.end });
                }
            }
            Ok(())
        };
        for (at, which, share) in asks {
            step(at % size, &mut have, &mut running)?;
            if let Some(count) = running.len().checked_sub(1) {
                let request = &mut running[usize::from(which) % (count + 1)];
                let to = request.at + (request.end - request.at) * share / 100;
                have.insert(request.at..to);
                request.at = to;
            }
            running.retain(|request| request.at < request.end);
        }
        while let Some(gap) = have.gap(0, size) {
            step(gap.start, &mut have, &mut running)?;
            for request in running.drain(..) {
                have.insert(request.at..request.end);
            }
        }
        prop_assert_eq!(have.len(), size);
    }
}
