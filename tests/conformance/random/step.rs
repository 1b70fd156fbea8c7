//! One request about a few objects, and random ones about ModelDeployments.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::sides::{Answer, Side};

const API_VERSION: &str = "drover.dev/v1alpha1";
const KIND: &str = "ModelDeployment";

/// One request.
#[derive(Clone, Debug)]
pub struct Step {
    pub what: What,
    /// About which of the objects.
    pub name: &'static str,
    /// Whether nothing shall be kept.
    pub dry_run: bool,
}

#[derive(Clone, Debug)]
pub enum What {
    Create(Value),
    Apply { manager: &'static str, force: bool, body: Value },
    ApplyStatus { manager: &'static str, conditions: Vec<(&'static str, &'static str)> },
    Replace { body: Value, basis: Basis },
    Merge { path: &'static str, body: Value, strict: bool },
    Json(Value),
    Strategic(Value),
    Get,
    Delete { fresh: Option<bool> },
    List(&'static str),
    DeleteCollection(&'static str),
}

/// What a replacement says that it is based on.
#[derive(Clone, Copy, Debug)]
pub enum Basis {
    Nothing,
    Present,
    Old,
}

fn labels() -> impl Strategy<Value = Value> {
    let value = prop_oneof![Just(json!("1")), Just(json!("2")), Just(json!("3"))];
    // What an empty map does is listed in docs/standalone.md.
    proptest::collection::btree_map(prop_oneof![Just("x"), Just("y"), Just("z")], value, 1..3)
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
    let finalizers = proptest::option::weighted(0.15, Just(json!(["drover.dev/test"])));
    let fields = (proptest::option::of(labels()), proptest::option::weighted(0.8, spec()), finalizers);
    fields.prop_map(|(labels, spec, finalizers)| {
        let mut object = json!({ "apiVersion": API_VERSION, "kind": KIND, "metadata": {} });
        for (place, value) in [("labels", labels), ("finalizers", finalizers)] {
            if let Some(value) = value {
                object["metadata"][place] = value;
            }
        }
        if let Some(spec) = spec {
            object["spec"] = spec;
        }
        object
    })
}

fn part() -> impl Strategy<Value = Value> {
    let finalizers = prop_oneof![
        6 => Just(None),
        1 => Just(Some(json!(["drover.dev/test"]))),
        1 => Just(Some(json!(["drover.dev/test", "drover.dev/more"]))),
        2 => Just(Some(Value::Null)),
    ];
    (proptest::option::of(labels()), proptest::option::of(spec()), finalizers).prop_map(|(labels, spec, finalizers)| {
        let mut patch = json!({ "metadata": {} });
        if let Some(mut labels) = labels {
            // One of them goes.
            labels["x"] = Value::Null;
            patch["metadata"]["labels"] = labels;
        }
        if let Some(finalizers) = finalizers {
            patch["metadata"]["finalizers"] = finalizers;
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
        Just(json!([{ "op": "add", "path": "/spec/strategy", "value": { "canary": { "steps": [{ "weight": 5 }] } } }])),
        Just(json!([{ "op": "copy", "from": "/spec/model", "path": "/metadata/labels/m" }])),
        Just(json!([{ "op": "move", "from": "/metadata/labels/y", "path": "/metadata/labels/z" }])),
        Just(
            json!([{ "op": "test", "path": "/spec/paused", "value": true }, { "op": "remove", "path": "/spec/strategy" }])
        ),
    ]
}

fn selector() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("labelSelector=x%3D1"),
        Just("labelSelector=x%21%3D1"),
        Just("labelSelector=%21y"),
        Just("labelSelector=y%20in%20%281%2C2%29"),
        Just("labelSelector=z%20notin%20%283%29%2Cx"),
        Just("fieldSelector=metadata.name%3Da"),
        Just("fieldSelector=metadata.name%21%3Da"),
        Just("limit=1"),
    ]
}

fn what() -> impl Strategy<Value = What> {
    let manager = || prop_oneof![Just("a"), Just("b"), Just("c")];
    let condition = (prop_oneof![Just("Ready"), Just("Stalled")], prop_oneof![Just("True"), Just("False")]);
    let conditions = proptest::collection::btree_map(condition.0, condition.1, 0..3);
    let phase = prop_oneof![Just("Healthy"), Just("Paused"), Just("Nonsense")];
    let basis = prop_oneof![3 => Just(Basis::Present), 1 => Just(Basis::Old), 1 => Just(Basis::Nothing)];
    prop_oneof![
        4 => object().prop_map(What::Create),
        8 => (manager(), any::<bool>(), object()).prop_map(|(manager, force, body)| What::Apply { manager, force, body }),
        2 => (manager(), conditions).prop_map(|(manager, conditions)| What::ApplyStatus { manager, conditions: conditions.into_iter().collect() }),
        2 => (object(), basis).prop_map(|(body, basis)| What::Replace { body, basis }),
        4 => (part(), any::<bool>()).prop_map(|(body, strict)| What::Merge { path: "", body, strict }),
        1 => phase.prop_map(|phase| What::Merge { path: "/status", body: json!({ "status": { "phase": phase } }), strict: false }),
        2 => operation().prop_map(What::Json),
        1 => Just(What::Get),
        2 => prop_oneof![3 => Just(None), 1 => Just(Some(true)), 1 => Just(Some(false))].prop_map(|fresh| What::Delete { fresh }),
        1 => selector().prop_map(What::List),
        1 => selector().prop_map(What::DeleteCollection),
    ]
}

/// What the last one is.
pub fn last() -> Value {
    let spec = json!({ "model": "m", "version": "v1.0.0" });
    json!({ "apiVersion": API_VERSION, "kind": KIND, "metadata": {}, "spec": spec })
}

/// One request about one of two ModelDeployments.
pub fn step() -> impl Strategy<Value = Step> {
    let name = prop_oneof![3 => Just("a"), 1 => Just("b")];
    (what(), name, proptest::bool::weighted(0.1)).prop_map(|(what, name, dry_run)| Step { what, name, dry_run })
}

impl Step {
    /// Sends it.
    pub async fn send(&self, side: &Side, collection: &str) -> Answer {
        let one = format!("{collection}/{}", self.name);
        let dry_run = if self.dry_run { "dryRun=All" } else { "" };
        match &self.what {
            What::Create(body) => side.ask("POST", &format!("{collection}?{dry_run}"), &self.named(body)).await,
            What::Apply { manager, force, body } => {
                let path = format!("apply:{one}?fieldManager={manager}&force={force}&{dry_run}");
                side.ask("PATCH", &path, &self.named(body)).await
            }
            What::ApplyStatus { manager, conditions } => {
                let path = format!("apply:{one}/status?fieldManager={manager}&force=true&{dry_run}");
                side.ask("PATCH", &path, &self.named(&status(conditions))).await
            }
            What::Replace { body, basis } => {
                let mut body = self.named(body);
                match basis {
                    Basis::Nothing => {}
                    Basis::Old => body["metadata"]["resourceVersion"] = json!("1"),
                    Basis::Present => body["metadata"]["resourceVersion"] = revision(side, &one).await,
                }
                side.ask("PUT", &format!("{one}?{dry_run}"), &body).await
            }
            What::Merge { path, body, strict } => {
                let strict = if *strict { "Strict" } else { "Warn" };
                side.ask("PATCH", &format!("merge:{one}{path}?fieldValidation={strict}&{dry_run}"), body).await
            }
            What::Json(body) => side.ask("PATCH", &format!("json:{one}?{dry_run}"), body).await,
            What::Strategic(body) => side.ask("PATCH", &format!("strategic:{one}?{dry_run}"), body).await,
            What::Get => side.ask("GET", &one, &Value::Null).await,
            What::Delete { fresh } => {
                let preconditions = match fresh {
                    None => Value::Null,
                    Some(true) => json!({ "preconditions": { "resourceVersion": revision(side, &one).await } }),
                    Some(false) => json!({ "preconditions": { "resourceVersion": "1" } }),
                };
                side.ask("DELETE", &format!("{one}?{dry_run}"), &preconditions).await
            }
            What::List(selector) => side.ask("GET", &format!("table:{collection}?{selector}"), &Value::Null).await,
            What::DeleteCollection(selector) => {
                side.ask("DELETE", &format!("{collection}?{selector}&{dry_run}"), &Value::Null).await
            }
        }
    }

    fn named(&self, body: &Value) -> Value {
        let mut body = body.clone();
        body["metadata"]["name"] = json!(self.name);
        body
    }
}

fn status(conditions: &[(&str, &str)]) -> Value {
    let conditions = conditions.iter().map(|(kind, status)| {
        json!({ "type": kind, "status": status, "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z" })
    });
    let conditions: Vec<_> = conditions.collect();
    json!({ "apiVersion": API_VERSION, "kind": KIND, "metadata": {}, "status": { "conditions": conditions } })
}

/// The present revision of an object; null when it is not there.
async fn revision(side: &Side, path: &str) -> Value {
    side.ask("GET", path, &Value::Null).await.body["metadata"]["resourceVersion"].clone()
}
