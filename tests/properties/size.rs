//! Sizes as people write them.

use drover::domain::size::ByteSize;
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_size_is_read_as_it_was_written(bytes in any::<u64>(), shift in 0..40u32) {
        let size = ByteSize(bytes >> shift << shift);
        prop_assert_eq!(size.to_string().parse(), Ok(size));
    }

    #[test]
    fn no_text_makes_reading_panic(text in prop_oneof![".{0,12}", "[0-9]{1,22}[KMGTkiB]{0,3}"]) {
        drop(text.parse::<ByteSize>());
    }

    #[test]
    fn a_unit_multiplies(number in 0..1000u64) {
        for (unit, factor) in [("", 1), ("B", 1), ("kB", 1000), ("MB", 1_000_000), ("GiB", 1 << 30), (" Ti", 1 << 40)] {
            prop_assert_eq!(format!("{number}{unit}").parse(), Ok(ByteSize(number * factor)));
        }
    }
}

#[test]
fn what_is_no_size_is_told() {
    for bad in ["", "GiB", "-1", "1.5GB", "1 MB/s", "99999999TiB", "1gib"] {
        assert!(bad.parse::<ByteSize>().is_err_and(|why| why.contains("100GiB")), "{bad}");
    }
}
