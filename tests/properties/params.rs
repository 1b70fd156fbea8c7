//! Whose value of a parameter takes effect.

use std::collections::BTreeMap;

use drover::domain::params::{Source, context, merge};
use proptest::{collection::btree_map, prelude::*};

type Layer = BTreeMap<String, i32>;

fn layer() -> impl Strategy<Value = Layer> {
    btree_map("[a-d]", any::<i32>(), 0..5)
}

proptest! {
    #[test]
    fn the_request_wins_over_the_version_and_the_version_over_the_node(
        request in layer(), version in layer(), node in layer(),
    ) {
        let layers = [(Source::Request, &request), (Source::Version, &version), (Source::Node, &node)];
        let merged = merge(&layers);
        for name in ["a", "b", "c", "d"] {
            let expected = layers.iter().find_map(|(source, layer)| Some((*layer.get(name)?, *source)));
            prop_assert_eq!(merged.get(name).copied(), expected);
        }
        let mut shuffled = layers;
        shuffled.reverse();
        prop_assert_eq!(merge(&shuffled), merged, "the order of the layers does not matter");
    }

    #[test]
    fn a_context_window_is_never_less_than_asked_for_nor_more_than_allowed(
        requested in prop::option::of(1..100u64), configured in prop::option::of(1..100u64), limit in prop::option::of(1..100u64),
    ) {
        let wanted = requested.max(configured);
        match context(requested, configured, limit) {
            Ok(window) => {
                prop_assert_eq!(window, wanted);
                prop_assert!(limit.is_none_or(|limit| window.is_none_or(|window| window <= limit)));
            }
            Err(named) => {
                prop_assert_eq!(Some(named), limit);
                prop_assert!(wanted > limit);
            }
        }
    }
}
