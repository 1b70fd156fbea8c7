//! Whose value of a parameter takes effect, and which values there may be.

use std::collections::BTreeMap;

use drover::domain::params::{Shape, Source, Window, merge, shape, widened};
use drover::gateway::{fields::Fields, parameters::check};
use proptest::{collection::btree_map, prelude::*};

type Layer = BTreeMap<String, i32>;

fn layer() -> impl Strategy<Value = Layer> {
    btree_map("[a-d]", any::<i32>(), 0..5)
}

/// Every option that has limits.
const LIMITED: [&str; 16] = [
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "top_k",
    "num_predict",
    "num_ctx",
    "num_keep",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "repeat_last_n",
];

proptest! {
    #[test]
    fn the_request_wins_over_the_version_and_the_version_over_the_node(
        request in layer(), version in layer(), node in layer(),
    ) {
        let layers = [(Source::Request, &request), (Source::Version, &version), (Source::Node, &node)];
        let merged = merge(layers);
        for name in ["a", "b", "c", "d"] {
            let expected = layers.iter().find_map(|(source, layer)| Some((layer.get(name)?, *source)));
            prop_assert_eq!(merged.get(&name.to_owned()).copied(), expected);
        }
        let mut shuffled = layers;
        shuffled.reverse();
        prop_assert_eq!(merge(shuffled), merged, "the order of the layers does not matter");
    }

    #[test]
    fn a_context_window_is_never_less_than_asked_for_nor_more_than_allowed(
        requested in prop::option::of(1..100u64), version in prop::option::of(1..100u64),
        node in prop::option::of(1..100u64), running in prop::option::of(1..100u64),
        model_limit in prop::option::of(1..100u64), node_limit in prop::option::of(1..100u64),
    ) {
        let configured = version.or(node);
        let wanted = requested.max(configured);
        let running = running.filter(|running| node_limit.is_none_or(|limit| *running <= limit));
        let effective = (Window { requested, version, node, model_limit, node_limit }).effective();
        match effective.map(|effective| widened(effective, running, node_limit)) {
            Ok(None) => prop_assert_eq!(wanted.max(running), None),
            Ok(Some((window, source))) => {
                prop_assert_eq!(Some(window), wanted.max(running), "nothing is loaded anew for less");
                prop_assert!(node_limit.is_none_or(|limit| window <= limit));
                prop_assert!(model_limit.is_none_or(|limit| requested <= Some(limit)));
                let of_source = match source {
                    Source::Request => requested,
                    Source::Version => version,
                    Source::Node if running > wanted => running,
                    Source::Node => node.filter(|_| version.is_none()),
                    // Nobody else said anything.
                    Source::Forced | Source::Step | Source::Worker | Source::Profile | Source::Catalog => None,
                };
                prop_assert_eq!(of_source, Some(window), "the source is who said it");
            }
            Err(limit) => {
                let over = |window: Option<u64>, most: Option<u64>| most == Some(limit) && window > most;
                prop_assert!(over(requested, model_limit) || over(wanted, node_limit));
            }
        }
    }

    #[test]
    fn an_options_value_is_taken_exactly_if_it_is_within_its_limits(
        option in prop::sample::select(&LIMITED[..]), number in prop_oneof![-5.0..5.0_f64, (-5..5_i32).prop_map(f64::from)],
    ) {
        let (least, most, is_whole) = match shape(option) {
            Some(Shape::Number(least, most)) => (least, most, false),
            Some(Shape::Whole(least, most)) => (least, most, true),
            other => return Err(TestCaseError::fail(format!("{option}: {other:?}"))),
        };
        let fits = number >= least && number <= most && (!is_whole || number.fract() == 0.0);
        let checked = check("options.x", option, number.to_string().as_bytes());
        prop_assert_eq!(checked.is_ok(), fits, "{} = {}", option, number);
        if let Err(error) = checked {
            for part in ["options.x".to_owned(), number.to_string(), least.to_string(), most.to_string()] {
                prop_assert!(error.contains(&part), "{error} has no {part}");
            }
        }
        for wrong in ["\"text\"", "[1]", "{}", "true"] {
            prop_assert!(check("x", option, wrong.as_bytes()).is_err());
        }
    }

    #[test]
    fn what_is_no_option_of_ollamas_passes_whatever_it_is(name in "x_[a-z]{1,8}", value in "\\PC{0,20}") {
        prop_assert!(check(&name, &name, serde_json::Value::from(value).to_string().as_bytes()).is_ok());
    }

    #[test]
    fn options_keep_their_spelling_because_ollama_does(name in "[a-zA-Z_]{1,8}") {
        let object = serde_json::json!({ &name: 1 }).to_string();
        let fields = Fields::parse_exact(&object.into()).unwrap();
        prop_assert_eq!(fields.iter().next().map(|(name, _)| name.to_owned()), Some(name));
    }
}
