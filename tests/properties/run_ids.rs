//! Run ids sort by time, and filters know which of them they mean.

use drover::domain::{run_id::RunId, run_record::RunFilter};
use jiff::Timestamp;
use proptest::prelude::*;

/// A moment between 1970 and 2100, to the microsecond.
fn moment() -> impl Strategy<Value = Timestamp> {
    (0..4_102_444_800_000_000i64).prop_map(|micros| Timestamp::from_microsecond(micros).expect("a moment"))
}

proptest! {
    #[test]
    fn ids_are_written_as_32_digits_that_sort_as_the_moments_do(
        (a, b) in (moment(), moment()), (x, y) in any::<(u128, u128)>(),
    ) {
        let (first, second) = (RunId::new(a, x), RunId::new(b, y));
        prop_assert_eq!(first.to_string().len(), 32);
        prop_assert_eq!(first.to_string().into_bytes(), first.digits().to_vec());
        prop_assert_eq!(first.to_string().parse(), Ok(first));
        prop_assert_eq!(first.to_string().to_uppercase().parse(), Ok(first));
        prop_assert_eq!(first.cmp(&second), first.to_string().cmp(&second.to_string()));
        if a.as_millisecond() != b.as_millisecond() {
            prop_assert_eq!(first < second, a < b);
        }
    }

    #[test]
    fn what_is_no_id_is_refused(text in "\\PC{0,40}") {
        let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        prop_assert_eq!(text.parse::<RunId>().is_ok(), is_id);
    }

    #[test]
    fn a_filter_means_the_ids_of_its_time_that_come_after_its_cursor(
        (at, since, until) in (moment(), moment(), moment()), chance in any::<u128>(), cursor in any::<Option<(u128, bool)>>(),
    ) {
        let id = RunId::new(at, chance);
        let after = cursor.map(|(chance, same)| RunId::new(if same { at } else { since }, chance));
        let filter = RunFilter { since: Some(since), until: Some(until), after, ..RunFilter::default() };
        let (from, before) = filter.ids();
        let ms = Timestamp::as_millisecond;
        let fits = ms(since) <= ms(at) && ms(at) < ms(until) && after.is_none_or(|after| id < after);
        prop_assert_eq!(from <= id && id < before, fits);
    }
}
