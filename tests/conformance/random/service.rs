//! Random requests about Services, which have lists that are merged by keys.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::step::{Basis, Step, What};

/// What the last one is.
pub fn last() -> Value {
    service(&json!({}), &json!([{ "port": 1 }]))
}

fn service(labels: &Value, ports: &Value) -> Value {
    // Nothing assigns addresses here.
    let spec = json!({ "clusterIP": "None", "selector": { "a": "b" }, "ports": ports });
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "labels": labels }, "spec": spec })
}

fn labels() -> impl Strategy<Value = Value> {
    proptest::collection::btree_map(prop_oneof![Just("x"), Just("y")], prop_oneof![Just("1"), Just("2")], 1..3)
        .prop_map(|labels| json!(labels))
}

/// Ports with names of their own, as a Service with several needs them. A port always has the same protocol: what a
/// Service may say is checked less here, see docs/standalone.md.
fn ports() -> impl Strategy<Value = Value> {
    let more = (any::<bool>(), proptest::option::of(1..4));
    proptest::collection::btree_map(prop_oneof![Just(80), Just(443), Just(8080)], more, 1..4).prop_map(|ports| {
        let port = |(port, (says_protocol, target)): (i32, (bool, Option<i32>))| {
            let mut item = json!({ "name": format!("p{port}"), "port": port });
            match (port, says_protocol) {
                (443, _) => item["protocol"] = json!("UDP"),
                (_, true) => item["protocol"] = json!("TCP"),
                (_, false) => {}
            }
            match target {
                Some(1) => item["targetPort"] = json!("named"),
                Some(target) => item["targetPort"] = json!(target),
                None => {}
            }
            item
        };
        ports.into_iter().map(port).collect::<Vec<_>>().into()
    })
}

fn object() -> impl Strategy<Value = Value> {
    (labels(), ports()).prop_map(|(labels, ports)| service(&labels, &ports))
}

fn strategic() -> impl Strategy<Value = Value> {
    let directive = prop_oneof![
        ports().prop_map(|ports| json!({ "ports": ports })),
        Just(json!({ "ports": [{ "port": 80, "$patch": "delete" }] })),
        Just(
            json!({ "ports": [{ "port": 80, "name": "other" }], "$setElementOrder/ports": [{ "port": 443 }, { "port": 80 }] })
        ),
        Just(json!({ "selector": { "a": null, "c": "d" } })),
        Just(json!({ "selector": { "$patch": "replace", "e": "f" } })),
        Just(json!({ "publishNotReadyAddresses": true })),
    ];
    directive.prop_map(|spec| json!({ "spec": spec }))
}

fn what() -> impl Strategy<Value = What> {
    let manager = prop_oneof![Just("a"), Just("b"), Just("c")];
    let merge = prop_oneof![
        ports().prop_map(|ports| json!({ "spec": { "ports": ports } })),
        labels().prop_map(|labels| json!({ "metadata": { "labels": labels } })),
        Just(json!({ "metadata": { "labels": null } })),
    ];
    let basis = prop_oneof![Just(Basis::Present), Just(Basis::Old), Just(Basis::Nothing)];
    prop_oneof![
        3 => object().prop_map(What::Create),
        6 => (manager, any::<bool>(), object()).prop_map(|(manager, force, body)| What::Apply { manager, force, body }),
        4 => strategic().prop_map(What::Strategic),
        2 => merge.prop_map(|body| What::Merge { path: "", body, strict: false }),
        1 => (object(), basis).prop_map(|(body, basis)| What::Replace { body, basis }),
        1 => Just(What::Get),
        1 => Just(What::Delete { fresh: None }),
    ]
}

/// One request about one of two Services.
pub fn step() -> impl Strategy<Value = Step> {
    let name = prop_oneof![3 => Just("a"), 1 => Just("b")];
    (what(), name, proptest::bool::weighted(0.1)).prop_map(|(what, name, dry_run)| Step { what, name, dry_run })
}
