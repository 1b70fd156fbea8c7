//! The audit on its way to where it is kept: while that is away, it waits, and what is lost is counted.

use drover::{
    api::{ModelDeployment, ModelDeploymentStatus},
    controller::audit::Backlog,
    domain::rollout::{AUDIT_LIMIT, Entry},
};
use jiff::Timestamp;
use proptest::{collection::vec, prelude::*};
use serde_json::json;

/// A deployment whose status tells the last of so many entries.
fn told(uid: &str, entries: u64) -> ModelDeployment {
    let object = json!({
        "apiVersion": "drover.dev/v1alpha1", "kind": "ModelDeployment",
        "metadata": {"name": uid, "namespace": "default", "uid": uid},
        "spec": {"model": "bot", "version": "v1.0.0"},
    });
    let mut object: ModelDeployment = serde_json::from_value(object).expect("a deployment");
    let entry = |number| Entry {
        number,
        at: Timestamp::UNIX_EPOCH,
        action: "Paused".into(),
        version: "v1.0.0".into(),
        message: String::new(),
        by: "drover".into(),
        rollout_id: String::new(),
    };
    let mut status = ModelDeploymentStatus::default();
    status.rollout.audit = (1..=entries).rev().take(AUDIT_LIMIT).map(entry).collect();
    object.status = Some(status);
    object
}

proptest! {
    /// Whatever comes between two looks: each entry waits once, in order, or is counted as lost.
    #[test]
    fn each_entry_waits_once_or_is_counted_as_lost(looks in vec((0..3usize, 0..50u64), 1..60)) {
        let (mut backlog, mut entries, mut seen, mut lost) = (Backlog::default(), [0u64; 3], [false; 3], 0);
        let mut unknown = 0;
        for (which, more) in looks {
            entries[which] += more;
            lost += backlog.take_up(&told(&format!("uid-{which}"), entries[which]));
            if !seen[which] && entries[which] > 0 {
                // What a status has forgotten when it is first seen was an earlier process' to store.
                unknown += entries[which].saturating_sub(AUDIT_LIMIT as u64);
                seen[which] = true;
            }
        }
        let seen_entries: u64 = entries.iter().zip(seen).filter(|(_, seen)| *seen).map(|(entries, _)| entries).sum();
        let waiting: Vec<_> = backlog.waiting().collect();
        // Entries that came after the last look at their deployment are not taken up yet: there are none here.
        prop_assert_eq!(waiting.len() as u64 + lost + unknown, seen_entries);
        for which in 0..3 {
            let uid = format!("uid-{which}");
            let numbers: Vec<u64> = waiting.iter().filter(|w| w.uid == uid).map(|w| w.entry.number).collect();
            prop_assert!(numbers.is_sorted_by(|a, b| a < b), "{:?}", numbers);
        }
    }
}

#[test]
fn a_backlog_has_an_end_and_the_oldest_entries_go_first() {
    let mut backlog = Backlog::default();
    let mut lost = 0;
    for deployment in 0..501 {
        lost += backlog.take_up(&told(&format!("uid-{deployment}"), AUDIT_LIMIT as u64));
    }
    assert_eq!((backlog.waiting().len(), lost), (10_000, 20));
    assert_eq!(backlog.waiting().next().map(|record| record.uid.as_str()), Some("uid-1"));
}
