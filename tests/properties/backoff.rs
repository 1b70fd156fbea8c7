//! Waiting between tries.

use std::time::Duration;

use drover::domain::backoff::delay;
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_wait_lies_in_the_upper_half_of_what_the_failures_earned(
        failures in any::<u32>(), first in 1..10_000u64, ceiling in 1..1_000_000u64, jitter in any::<f64>(),
    ) {
        let (first, ceiling) = (Duration::from_millis(first), Duration::from_millis(ceiling));
        let wait = delay(failures, first, ceiling, if jitter.is_nan() { 0.5 } else { jitter });
        let earned = first.saturating_mul(1 << failures.saturating_sub(1).min(30)).min(ceiling);
        prop_assert!(wait <= earned && wait * 2 + Duration::from_nanos(2) >= earned, "{wait:?} of {earned:?}");
        prop_assert!(wait <= ceiling);
    }

    #[test]
    fn it_never_shrinks_with_another_failure(failures in 0..100u32, jitter in 0.0..=1.0) {
        let (first, ceiling) = (Duration::from_secs(1), Duration::from_secs(300));
        prop_assert!(delay(failures + 1, first, ceiling, jitter) >= delay(failures, first, ceiling, jitter));
    }
}

#[test]
fn it_doubles_up_to_the_ceiling() {
    let wait = |failures| delay(failures, Duration::from_secs(1), Duration::from_secs(10), 1.0).as_secs();
    assert_eq!([0, 1, 2, 3, 4, 5, 6, u32::MAX].map(wait), [1, 1, 2, 4, 8, 10, 10, 10]);
}
