//! Random requests to both: the answers must be the same. A difference is shrunk to the fewest requests that show it.

use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestRunner},
};
use serde_json::{Value, json};

use crate::{
    requests::namespace,
    sides::{clean, embedded, normal, real, scenario},
};

/// How many sequences are tried, the same ones each time; `DROVER_CASES` asks for so many new ones.
const CASES: u32 = 40;
const SEED: u64 = 1;

/// One request about the one object.
#[derive(Clone, Debug)]
enum Step {
    Create(Value),
    Apply { manager: &'static str, force: bool, body: Value },
    ApplyStatus { manager: &'static str, conditions: Vec<(&'static str, &'static str)> },
    Merge(Value),
    MergeStatus(Value),
    Json(Value),
    Delete,
}

fn labels() -> impl Strategy<Value = Value> {
    let value = prop_oneof![Just(json!("1")), Just(json!("2")), Just(json!("3"))];
    proptest::collection::btree_map(prop_oneof![Just("x"), Just("y"), Just("z")], value, 0..3)
        .prop_map(|map| json!(map))
}

fn spec() -> impl Strategy<Value = Value> {
    let version = prop_oneof![Just(json!("v1.0.0")), Just(json!("v1.1.0")), Just(json!("bad"))];
    let fields = (
        proptest::option::of(prop_oneof![9 => Just(json!("m")), 1 => Just(json!("n"))]),
        proptest::option::weighted(0.8, version),
        proptest::option::weighted(0.3, any::<bool>().prop_map(|paused| json!(paused))),
        proptest::option::weighted(0.3, (0..12).prop_map(|window| json!(window))),
        proptest::option::weighted(0.3, proptest::collection::vec(1..120, 0..3)),
        // An empty one after a full one is listed in docs/standalone.md.
        proptest::option::weighted(0.2, "[12]".prop_map(|x| json!({ "x": x }))),
    );
    fields.prop_map(|(model, version, paused, window, steps, selector)| {
        let steps = steps.map(
            |steps| json!({ "canary": { "steps": steps.iter().map(|w| json!({ "weight": w })).collect::<Vec<_>>() } }),
        );
        let selector = selector.map(|labels| json!({ "nodeSelector": { "matchLabels": labels } }));
        let all = [
            ("model", model),
            ("version", version),
            ("paused", paused),
            ("rollbackWindow", window),
            ("strategy", steps),
            ("placement", selector),
        ];
        Value::Object(all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    })
}

fn object() -> impl Strategy<Value = Value> {
    (proptest::option::of(labels()), proptest::option::weighted(0.8, spec())).prop_map(|(labels, spec)| {
        let mut object =
            json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": "NAME" } });
        if let Some(labels) = labels {
            object["metadata"]["labels"] = labels;
        }
        if let Some(spec) = spec {
            object["spec"] = spec;
        }
        object
    })
}

fn part() -> impl Strategy<Value = Value> {
    (proptest::option::of(labels()), proptest::option::of(spec())).prop_map(|(labels, spec)| {
        let mut patch = json!({});
        if let Some(mut labels) = labels {
            // One of them goes.
            labels["x"] = Value::Null;
            patch["metadata"] = json!({ "labels": labels });
        }
        if let Some(spec) = spec {
            patch["spec"] = spec;
        }
        patch
    })
}

fn operation() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!([{ "op": "add", "path": "/metadata/labels", "value": { "q": "1" } }])),
        Just(json!([{ "op": "remove", "path": "/metadata/labels" }])),
        Just(json!([{ "op": "replace", "path": "/spec/paused", "value": true }])),
        Just(
            json!([{ "op": "test", "path": "/spec/paused", "value": true }, { "op": "remove", "path": "/spec/strategy" }])
        ),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let manager = || prop_oneof![Just("a"), Just("b"), Just("c")];
    let condition = (prop_oneof![Just("Ready"), Just("Stalled")], prop_oneof![Just("True"), Just("False")]);
    let conditions = proptest::collection::btree_map(condition.0, condition.1, 0..3);
    prop_oneof![
        2 => object().prop_map(Step::Create),
        6 => (manager(), any::<bool>(), object()).prop_map(|(manager, force, body)| Step::Apply { manager, force, body }),
        2 => (manager(), conditions).prop_map(|(manager, conditions)| Step::ApplyStatus { manager, conditions: conditions.into_iter().collect() }),
        3 => part().prop_map(Step::Merge),
        1 => prop_oneof![Just("Healthy"), Just("Paused"), Just("Nonsense")].prop_map(|phase| Step::MergeStatus(json!({ "status": { "phase": phase } }))),
        1 => operation().prop_map(Step::Json),
        1 => Just(Step::Delete),
    ]
}

impl Step {
    fn request(&self, collection: &str, name: &str) -> (&'static str, String, Value) {
        let one = format!("{collection}/{name}");
        let named = |body: &Value| {
            let mut body = body.clone();
            body["metadata"]["name"] = json!(name);
            body
        };
        match self {
            Self::Create(body) => ("POST", collection.to_owned(), named(body)),
            Self::Apply { manager, force, body } => {
                ("PATCH", format!("apply:{one}?fieldManager={manager}&force={force}"), named(body))
            }
            Self::ApplyStatus { manager, conditions } => {
                let conditions: Vec<_> = conditions.iter().map(|(kind, status)| json!({ "type": kind, "status": status, "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z" })).collect();
                let body = json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {}, "status": { "conditions": conditions } });
                ("PATCH", format!("apply:{one}/status?fieldManager={manager}&force=true"), named(&body))
            }
            Self::Merge(body) => ("PATCH", format!("merge:{one}"), body.clone()),
            Self::MergeStatus(body) => ("PATCH", format!("merge:{one}/status"), body.clone()),
            Self::Json(body) => ("PATCH", format!("json:{one}"), body.clone()),
            Self::Delete => ("DELETE", one, Value::Null),
        }
    }
}

#[test]
fn random_requests_are_answered_the_same() {
    let mut collection = String::new();
    scenario(|| async {
        let namespace = namespace(&[real().await, embedded().await]).await;
        collection = format!("/apis/drover.dev/v1alpha1/namespaces/{namespace}/modeldeployments");
    });
    let next = std::cell::Cell::new(0);
    let asked = std::env::var("DROVER_CASES").ok().map(|cases| cases.parse().expect("DROVER_CASES is a number"));
    let config = ProptestConfig {
        cases: asked.unwrap_or(CASES),
        rng_seed: if asked.is_some() { RngSeed::Random } else { RngSeed::Fixed(SEED) },
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let sequences = proptest::collection::vec(step(), 1..10);
    let outcome = TestRunner::new(config).run(&sequences, |steps| {
        next.set(next.get() + 1);
        let name = format!("case-{}", next.get());
        let mut difference = None;
        scenario(|| async {
            let sides = [real().await, embedded().await];
            for (index, step) in steps.iter().enumerate() {
                let (method, path, body) = step.request(&collection, &name);
                let mut answers = Vec::new();
                for side in &sides {
                    let mut answer = normal(&side.ask(method, &path, &body).await);
                    clean(&mut answer.body);
                    answers.push(answer);
                }
                if answers[0] != answers[1] {
                    let [real, embedded] = [0, 1].map(|at| format!("{} {}", answers[at].code, answers[at].body));
                    difference =
                        Some(format!("step {index}: {method} {path} {body}\nreal     {real}\nembedded {embedded}"));
                    break;
                }
            }
        });
        prop_assert!(difference.is_none(), "{}", difference.unwrap_or_default());
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
