//! Exports: what a manifest says, and that a reader of it gets the same.

use drover::export::{manifest, yaml};
use proptest::{collection, prelude::*};
use serde_json::{Value, json};

/// Words that YAML gives a meaning to, and any others.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "(yes|No|on|OFF|y|null|~|true|0x1f|1e3|010|1_0|12:30|\\.inf|---|<<|=|2001-01-01|- a|a: b|# a|&a|\\*a|!a|%a|@a|`a)",
        "[ \t\n\r'\":#,{}|>-]{0,6}",
        "\\PC{0,8}",
    ]
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        word().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(|number: f64| json!(number)),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            collection::btree_map(word(), inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    let keys = || collection::btree_map("(drover.dev/|example.com/|)[a-z]{1,3}", word(), 0..4);
    (values(), values(), keys(), keys(), collection::vec("(drover.dev|example.com)/[a-z]", 0..3)).prop_map(
        |(spec, status, labels, annotations, finalizers)| {
            json!({
                "apiVersion": "drover.dev/v1alpha1",
                "kind": "ModelPull",
                "metadata": {
                    "name": "a", "namespace": "b", "uid": "u", "resourceVersion": "1", "generation": 2,
                    "labels": labels, "annotations": annotations, "finalizers": finalizers,
                },
                "spec": spec,
                "status": status,
            })
        },
    )
}

proptest! {
    #[test]
    fn a_reader_gets_what_was_said(object in object()) {
        let manifest = manifest(&object).expect("it stays");
        let text = yaml(&manifest).expect("YAML");
        let read: Value = serde_yaml::from_str(&text).expect("it can be read");
        prop_assert_eq!(&read, &manifest.object, "{}", text);
        prop_assert_eq!(&read["spec"], &object["spec"]);
    }

    #[test]
    fn only_what_users_said_is_left_and_that_stays(object in object()) {
        let manifest = manifest(&object).expect("it stays");
        let metadata = &manifest.object["metadata"];
        for field in ["labels", "annotations"] {
            let users = object["metadata"][field].as_object().expect("a map").iter();
            let users: serde_json::Map<_, _> =
                users.filter(|(key, _)| !key.starts_with("drover.dev/")).map(|(key, value)| (key.clone(), value.clone())).collect();
            prop_assert_eq!(metadata[field].as_object().cloned().unwrap_or_default(), users);
        }
        prop_assert!(!metadata.to_string().contains("drover.dev/"));
        prop_assert!(manifest.object.get("status").is_none() && metadata.get("uid").is_none());
        prop_assert_eq!(drover::export::manifest(&manifest.object), Some(manifest));
    }
}
