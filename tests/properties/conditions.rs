//! Conditions keep the time of their last change.

use drover::domain::conditions::{Condition, ConditionStatus, Finding, merge};
use jiff::Timestamp;
use proptest::{collection::vec, prelude::*};

const TYPES: [&str; 3] = ["Ready", "Reconciling", "Stalled"];

fn status() -> impl Strategy<Value = ConditionStatus> {
    prop_oneof![Just(ConditionStatus::True), Just(ConditionStatus::False), Just(ConditionStatus::Unknown)]
}

/// One finding of each type at most, as controllers make them.
fn findings() -> impl Strategy<Value = Vec<Finding>> {
    vec(prop::option::of((status(), "[A-Z][a-z]{1,5}", "[a-z ]{0,9}")), TYPES.len()).prop_map(|found| {
        let each = TYPES.iter().zip(found);
        each.filter_map(|(type_, found)| {
            found.map(|(status, reason, message)| Finding::new(type_, status, reason, message))
        })
        .collect()
    })
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

proptest! {
    #[test]
    fn a_transition_time_changes_exactly_with_the_status(rounds in vec(findings(), 1..8)) {
        let mut conditions: Vec<Condition> = Vec::new();
        for (round, findings) in rounds.into_iter().enumerate() {
            let (earlier, now) = (conditions.clone(), at(1000 + round as i64));
            conditions = merge(&earlier, findings.clone(), Some(round as i64), now);
            prop_assert_eq!(conditions.len(), findings.len());
            for (condition, finding) in conditions.iter().zip(&findings) {
                prop_assert_eq!(&condition.type_, finding.type_);
                prop_assert_eq!(condition.status, finding.status);
                prop_assert_eq!(&condition.reason, &finding.reason);
                prop_assert_eq!(&condition.message, &finding.message);
                prop_assert_eq!(condition.observed_generation, Some(round as i64));
                let before = earlier.iter().find(|c| c.type_ == condition.type_);
                let expected = before.filter(|b| b.status == condition.status).map_or(now, |b| b.last_transition_time);
                prop_assert_eq!(condition.last_transition_time, expected);
            }
            let again = merge(&conditions, findings, Some(round as i64), at(99_999));
            prop_assert_eq!(&again, &conditions, "the same findings later are the same conditions");
        }
    }

    #[test]
    fn a_condition_is_read_as_it_was_written(findings in findings()) {
        let conditions = merge(&[], findings, None, at(7));
        let text = serde_json::to_string(&conditions).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<Vec<Condition>>(&text).expect("conditions"), conditions);
    }
}
