//! Selectors mean what Kubernetes says they mean.

use std::collections::BTreeMap;

use drover::domain::labels::{NodeSelector, Operator, Requirement};
use proptest::{
    collection::{btree_map, vec},
    prelude::*,
};

type Labels = BTreeMap<String, String>;

fn map(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn needs(key: &str, operator: Operator, values: &[&str]) -> NodeSelector {
    let values = values.iter().map(|value| (*value).into()).collect();
    NodeSelector {
        match_expressions: vec![Requirement { key: key.into(), operator, values }],
        ..NodeSelector::default()
    }
}

#[test]
fn each_operator_means_what_kubernetes_says() {
    let gpu = map(&[("tier", "gpu"), ("zone", "a")]);
    let bare = map(&[]);
    // selector, picks the GPU node, picks a node without labels
    let table = [
        (NodeSelector::default(), true, true),
        (NodeSelector { match_labels: map(&[("tier", "gpu")]), ..NodeSelector::default() }, true, false),
        (NodeSelector { match_labels: map(&[("tier", "cpu")]), ..NodeSelector::default() }, false, false),
        (
            NodeSelector { match_labels: map(&[("tier", "gpu"), ("zone", "b")]), ..NodeSelector::default() },
            false,
            false,
        ),
        (needs("tier", Operator::In, &["cpu", "gpu"]), true, false),
        (needs("tier", Operator::In, &[]), false, false),
        (needs("tier", Operator::NotIn, &["cpu"]), true, true),
        (needs("tier", Operator::NotIn, &["gpu"]), false, true),
        (needs("tier", Operator::NotIn, &[]), true, true),
        (needs("tier", Operator::Exists, &[]), true, false),
        (needs("tier", Operator::DoesNotExist, &[]), false, true),
    ];
    for (selector, picks_gpu, picks_bare) in table {
        assert_eq!((selector.matches(&gpu), selector.matches(&bare)), (picks_gpu, picks_bare), "{selector:?}");
    }
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map("[ab]", "[xyz]", 0..3)
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let operator =
        prop_oneof![Just(Operator::In), Just(Operator::NotIn), Just(Operator::Exists), Just(Operator::DoesNotExist)];
    ("[abc]", operator, vec("[xyz]", 0..3)).prop_map(|(key, operator, values)| Requirement { key, operator, values })
}

fn selector() -> impl Strategy<Value = NodeSelector> {
    (labels(), vec(requirement(), 0..4))
        .prop_map(|(match_labels, match_expressions)| NodeSelector { match_labels, match_expressions })
}

proptest! {
    #[test]
    fn match_labels_are_short_for_in_with_one_value(selector in selector(), labels in labels()) {
        let long = NodeSelector {
            match_labels: Labels::new(),
            match_expressions: selector.match_labels.iter()
                .map(|(key, value)| Requirement { key: key.clone(), operator: Operator::In, values: vec![value.clone()] })
                .chain(selector.match_expressions.clone())
                .collect(),
        };
        prop_assert_eq!(selector.matches(&labels), long.matches(&labels));
    }

    #[test]
    fn every_requirement_narrows(selector in selector(), more in requirement(), labels in labels()) {
        let mut narrower = selector.clone();
        narrower.match_expressions.push(more.clone());
        let alone = NodeSelector { match_expressions: vec![more], ..NodeSelector::default() };
        prop_assert_eq!(narrower.matches(&labels), selector.matches(&labels) && alone.matches(&labels));
    }

    #[test]
    fn opposites_never_agree(requirement in requirement(), labels in labels()) {
        let operator = match requirement.operator {
            Operator::In => Operator::NotIn,
            Operator::NotIn => Operator::In,
            Operator::Exists => Operator::DoesNotExist,
            Operator::DoesNotExist => Operator::Exists,
        };
        let opposite = Requirement { operator, ..requirement.clone() };
        let [one, other] = [requirement, opposite]
            .map(|r| NodeSelector { match_expressions: vec![r], ..NodeSelector::default() }.matches(&labels));
        prop_assert_ne!(one, other);
    }

    #[test]
    fn a_selector_is_read_as_it_was_written(selector in selector()) {
        let text = serde_json::to_string(&selector).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<NodeSelector>(&text).expect("a selector"), selector);
    }
}
