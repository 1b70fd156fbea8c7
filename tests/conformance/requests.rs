//! Requests that are sent to both, one after another; each answer must be the same.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::sides::{Side, clean, embedded, normal, real, scenario};

const PULLS: &str = "/apis/drover.dev/v1alpha1/namespaces/NS/modelpulls";
const DEPLOYMENTS: &str = "/apis/drover.dev/v1alpha1/namespaces/NS/modeldeployments";
const CONFIGMAPS: &str = "/api/v1/namespaces/NS/configmaps";

/// A namespace of its own, on both.
pub async fn namespace(sides: &[Side]) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let name = format!("conformance-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    for side in sides {
        let answer = side.ask("POST", "/api/v1/namespaces", &json!({ "metadata": { "name": name } })).await;
        assert_eq!(answer.code, 201, "{}: {}", side.name, answer.body);
    }
    name
}

/// Sends the same requests to both; `NS` in a path stands for a namespace of their own.
pub async fn same(requests: &[(&str, &str, Value)]) {
    let sides = [real().await, embedded().await];
    let namespace = namespace(&sides).await;
    let mut differences = Vec::new();
    for (method, path, body) in requests {
        let path = path.replace("NS", &namespace);
        let body = &in_namespace(body, &namespace);
        let mut answers = Vec::new();
        for side in &sides {
            answers.push(normal(&side.ask(method, &path, body).await));
        }
        if answers[0] != answers[1] {
            differences.push(format!(
                "{method} {path} {body}\n  real     {:?}\n  embedded {:?}",
                Short(&answers[0]),
                Short(&answers[1])
            ));
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

fn in_namespace(body: &Value, namespace: &str) -> Value {
    serde_json::from_str(&body.to_string().replace("NAMESPACE", namespace)).expect("still JSON")
}

struct Short<'a>(&'a crate::sides::Answer);

impl std::fmt::Debug for Short<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sorted: std::collections::BTreeMap<String, Value> =
            self.0.body.as_object().map(|body| body.clone().into_iter().collect()).unwrap_or_default();
        let body = if sorted.is_empty() {
            self.0.body.to_string()
        } else {
            serde_json::to_string(&sorted).unwrap_or_default()
        };
        write!(formatter, "{} {body} {:?}", self.0.code, self.0.warnings)
    }
}

pub fn pull(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "ModelPull", "metadata": { "name": name }, "spec": spec })
}

fn deployment(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": name }, "spec": spec })
}

fn config(name: &str, data: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data })
}

fn of(collection: &str, rest: &str) -> String {
    format!("{collection}{rest}")
}

#[test]
fn what_is_wrong_is_said_in_the_same_words() {
    scenario(|| async {
        let strict = of(PULLS, "?fieldValidation=Strict");
        let long = "a".repeat(70);
        same(&[
            ("POST", PULLS, pull("a", json!({ "model": 5, "retry": [], "updatePolicy": "X", "digest": "q", "timeout": "5x" }))),
            ("POST", &strict, pull("a", json!({ "model": "a", "foo": 1, "bar": { "a": 1 }, "retry": { "x": 1 } }))),
            ("POST", &strict, json!(r#"{"apiVersion":"drover.dev/v1alpha1","kind":"ModelPull","metadata":{"name":"a"},"spec":{"model":"a","model":"b"}}"#)),
            ("POST", PULLS, pull("warned", json!({ "model": "a", "foo": 1 }))),
            ("POST", &of(PULLS, "?fieldValidation=Ignore"), pull("ignored", json!({ "model": "a", "foo": 1 }))),
            ("POST", PULLS, pull("A_b", json!({}))),
            ("POST", PULLS, json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "ModelPull", "metadata": { "name": "a" } })),
            ("POST", PULLS, json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "ModelPull", "metadata": {}, "spec": { "model": "a" } })),
            ("POST", PULLS, json!({ "apiVersion": "drover.dev/v1", "kind": "ModelPull", "metadata": { "name": "a" } })),
            ("POST", PULLS, json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "OllamaNode", "metadata": { "name": "a" } })),
            ("POST", PULLS, json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "ModelPull", "metadata": { "name": "a", "namespace": "other" }, "spec": { "model": "a" } })),
            ("POST", PULLS, json!({ "kind": "ModelPull", "metadata": { "name": "a" }, "spec": { "model": "a" } })),
            ("POST", PULLS, json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "ModelPull", "metadata": { "name": "a", "resourceVersion": "12" }, "spec": { "model": "a" } })),
            ("POST", DEPLOYMENTS, deployment("a", json!({ "model": "m", "version": "v1.0.0", "rollbackWindow": 99, "strategy": { "canary": { "steps": [{ "weight": 20 }, { "weight": 10 }, { "weight": 200 }] }, "immediate": {} } }))),
            ("POST", DEPLOYMENTS, deployment("a", json!({ "model": "m", "version": "v1.0.0", "strategy": { "canary": { "steps": [] } } }))),
            ("POST", DEPLOYMENTS, json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": "a", "labels": { "a b": "c", "x": "y!" }, "annotations": { "q q": "z" } }, "spec": { "model": "m", "version": "v1.0.0" } })),
            ("POST", DEPLOYMENTS, deployment(&long, json!({ "model": long, "version": "v1.0.0" }))),
            ("POST", DEPLOYMENTS, deployment(&long, json!({ "model": "m", "version": "v1.0.0" }))),
            ("GET", &of(PULLS, "?labelSelector=a%20b%20c"), Value::Null),
            ("GET", &of(PULLS, "?fieldSelector=spec.model=x"), Value::Null),
            ("GET", &of(PULLS, "?limit=x"), Value::Null),
            ("GET", &of(PULLS, "?resourceVersion=99999999"), Value::Null),
            ("GET", &of(PULLS, "/none"), Value::Null),
            ("DELETE", &of(PULLS, "/none"), Value::Null),
            ("PUT", PULLS, json!({})),
            ("GET", "/api/v1/namespaces/nope/configmaps/x", Value::Null),
            ("POST", "/api/v1/namespaces/nope/configmaps", config("x", json!({}))),
            ("POST", CONFIGMAPS, config("x", json!({ "a/b": "1" }))),
            ("DELETE", "/api/v1/namespaces/default", Value::Null),
        ])
        .await;
    });
}

#[test]
fn conflicts_name_their_managers_in_the_same_order() {
    scenario(|| async {
        let one = of(CONFIGMAPS, "/one");
        let by = |manager: &str| format!("{one}?fieldManager={manager}");
        let value = |value: &str| config("one", json!({ "x": value, "y": value }));
        // In managedFields whoever applies comes before whoever writes in another way; in a conflict names decide.
        same(&[
            ("PATCH", &format!("apply:{}", by("c")), value("1")),
            ("PATCH", &format!("apply:{}", by("b")), value("1")),
            ("PATCH", &format!("merge:{}", by("a")), json!({ "data": { "x": "2" } })),
            ("PATCH", &format!("apply:{}&force=true", by("c")), value("2")),
            ("PATCH", &format!("apply:{}", by("d")), value("3")),
        ])
        .await;
    });
}

#[test]
fn objects_live_the_same_life() {
    scenario(|| async {
        let one = of(DEPLOYMENTS, "/one");
        let status = of(DEPLOYMENTS, "/one/status");
        let spec = json!({ "model": "m", "version": "v1.0.0" });
        let condition =
            json!({ "type": "Ready", "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z" });
        same(&[
            ("POST", &of(DEPLOYMENTS, "?dryRun=All"), deployment("one", spec.clone())),
            ("GET", &one, Value::Null),
            ("POST", DEPLOYMENTS, json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": "one", "labels": { "a": "b" }, "finalizers": ["drover.dev/x"] }, "spec": spec, "status": { "phase": "Healthy" } })),
            ("POST", DEPLOYMENTS, deployment("one", spec.clone())),
            ("GET", &one, Value::Null),
            ("PUT", &one, deployment("one", spec.clone())),
            ("PUT", &one, json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": "one", "resourceVersion": "1" }, "spec": spec })),
            ("PUT", &one, json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": "two", "resourceVersion": "1" }, "spec": spec })),
            ("PATCH", &format!("merge:{one}"), json!({ "spec": { "model": "m2" } })),
            ("PATCH", &format!("merge:{one}"), json!({ "spec": { "version": "v1.1.0" }, "status": { "phase": "Healthy" } })),
            ("PATCH", &format!("merge:{one}"), json!({ "metadata": { "uid": "x" } })),
            ("PATCH", &format!("merge:{one}"), json!({ "metadata": { "resourceVersion": "1" } })),
            ("PATCH", &format!("merge:{one}"), json!({ "metadata": { "labels": { "a": null, "c": "d" } } })),
            ("PATCH", &format!("merge:{one}?fieldValidation=Strict"), json!({ "spec": { "foo": "m2" } })),
            ("PATCH", &format!("strategic:{one}"), json!({ "spec": { "paused": true } })),
            ("PATCH", &format!("json:{one}"), json!([{ "op": "replace", "path": "/spec/paused", "value": true }])),
            ("PATCH", &format!("json:{one}"), json!([{ "op": "test", "path": "/spec/model", "value": "q" }])),
            ("PATCH", &format!("json:{one}"), json!([{ "op": "remove", "path": "/spec/nothing" }])),
            ("PATCH", &format!("merge:{status}"), json!({ "spec": { "paused": false }, "status": { "phase": "Healthy", "conditions": [condition] } })),
            ("PATCH", &format!("merge:{status}"), json!({ "status": { "phase": "Nonsense" } })),
            ("GET", &status, Value::Null),
            ("DELETE", &one, json!({ "preconditions": { "uid": "nope" } })),
            ("DELETE", &one, json!({ "preconditions": { "resourceVersion": "1" } })),
            ("DELETE", &format!("{one}?dryRun=All"), Value::Null),
            ("DELETE", &one, Value::Null),
            ("DELETE", &one, Value::Null),
            ("PATCH", &format!("merge:{one}"), json!({ "metadata": { "finalizers": ["drover.dev/x", "drover.dev/y"] } })),
            ("PATCH", &format!("merge:{one}"), json!({ "metadata": { "finalizers": null } })),
            ("GET", &one, Value::Null),
            ("POST", DEPLOYMENTS, deployment("two", spec.clone())),
            ("POST", DEPLOYMENTS, deployment("three", spec.clone())),
            ("GET", &format!("table:{DEPLOYMENTS}"), Value::Null),
            ("GET", &format!("metas:{DEPLOYMENTS}"), Value::Null),
            ("GET", &of(DEPLOYMENTS, "?limit=1"), Value::Null),
            ("GET", &of(DEPLOYMENTS, "?fieldSelector=metadata.name=two"), Value::Null),
            ("GET", &of(DEPLOYMENTS, "?labelSelector=!a"), Value::Null),
            ("DELETE", DEPLOYMENTS, Value::Null),
            ("GET", DEPLOYMENTS, Value::Null),
        ])
        .await;
    });
}

#[test]
fn appliers_share_an_object_in_the_same_way() {
    scenario(|| async {
        let apply = |manager: &str, more: &str| format!("apply:{DEPLOYMENTS}/one?fieldManager={manager}{more}");
        let spec = |spec: Value| json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": "one" }, "spec": spec });
        let labels = |labels: Value| json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": "one", "labels": labels } });
        let status = |manager: &str| format!("apply:{DEPLOYMENTS}/one/status?fieldManager={manager}&force=true");
        let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status, "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z" });
        let conditions = |conditions: Value| json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": "one" }, "status": { "conditions": conditions } });
        let steps =
            |steps: Value| json!({ "model": "m", "version": "v1.0.0", "strategy": { "canary": { "steps": steps } } });
        same(&[
            ("PATCH", &format!("apply:{DEPLOYMENTS}/one"), spec(json!({ "model": "m", "version": "v1.0.0" }))),
            ("PATCH", &apply("a", ""), spec(json!({ "model": "m" }))),
            ("PATCH", &apply("a", ""), json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "ModelDeployment" })),
            ("PATCH", &apply("a", ""), spec(json!({ "model": "m", "version": "v1.0.0", "foo": 1 }))),
            ("PATCH", &apply("a", ""), spec(steps(json!([{ "weight": 10 }])))),
            ("PATCH", &apply("a", ""), spec(steps(json!([{ "weight": 10 }])))),
            // Conflicts are told level by level.
            ("PATCH", &apply("b", ""), spec(json!({ "version": "v2.0.0", "strategy": { "canary": { "steps": [] } } }))),
            ("PATCH", &apply("b", ""), labels(json!({ "x": "1", "y": "2" }))),
            ("PATCH", &apply("c", ""), labels(json!({ "x": "2" }))),
            ("PATCH", &apply("c", ""), labels(json!({ "x": "1" }))),
            ("PATCH", &apply("c", "&force=true"), labels(json!({ "x": "3" }))),
            ("PATCH", &apply("b", ""), labels(json!({ "y": "2" }))),
            ("PATCH", &apply("c", ""), labels(json!({}))),
            ("PATCH", &apply("b", ""), json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": "one" } })),
            ("PATCH", &apply("b", ""), spec(json!({ "version": "v2.0.0", "paused": true }))),
            ("PATCH", &apply("b", ""), spec(json!({ "paused": true }))),
            ("PATCH", &apply("b", "&force=true"), spec(json!({ "paused": true }))),
            ("PATCH", &apply("a", ""), spec(json!({ "model": "m", "version": "v1.0.0" }))),
            ("PATCH", &format!("merge:{DEPLOYMENTS}/one"), json!({ "spec": { "version": "v3.0.0" } })),
            ("PATCH", &apply("a", ""), spec(json!({ "model": "m", "version": "v1.0.0" }))),
            ("PATCH", &apply("a", "&force=true"), spec(json!({ "model": "m", "version": "v1.0.0" }))),
            ("PATCH", &status("controller"), conditions(json!([condition("Ready", "True"), condition("Progressing", "True")]))),
            ("PATCH", &status("other"), conditions(json!([condition("Checked", "True")]))),
            ("PATCH", &status("controller"), conditions(json!([condition("Ready", "False")]))),
            ("PATCH", &status("controller"), conditions(json!([condition("Stalled", "False"), condition("Ready", "False")]))),
            ("GET", &of(DEPLOYMENTS, "/one"), Value::Null),
            ("PATCH", &format!("json:{DEPLOYMENTS}/one"), json!([{ "op": "remove", "path": "/metadata/managedFields" }])),
            ("PATCH", &format!("merge:{DEPLOYMENTS}/one"), json!({ "metadata": { "managedFields": [{}] } })),
        ])
        .await;
    });
}

#[test]
fn an_item_goes_with_the_last_who_owns_it_itself() {
    scenario(|| async {
        let services = "/api/v1/namespaces/NS/services";
        let apply = format!("apply:{services}/s?fieldManager=a");
        let with = |port: u16| json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s" }, "spec": { "clusterIP": "None", "ports": [{ "name": format!("p{port}"), "port": port }] } });
        let renamed = json!({ "spec": { "ports": [{ "port": 80, "name": "other" }] } });
        same(&[
            ("PATCH", &apply, with(80)),
            ("PATCH", &format!("strategic:{services}/s?fieldManager=b"), renamed),
            ("PATCH", &apply, with(443)),
        ])
        .await;
    });
}

#[test]
fn kubectl_goes_over_to_server_side_apply() {
    scenario(|| async {
        let object = |spec: Value, annotations: Value| json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": "one", "annotations": annotations }, "spec": spec });
        let spec = |model: &str, version: &str| json!({ "model": model, "version": version });
        let note = object(spec("m", "v1.0.0"), json!({})).to_string();
        let noted = object(spec("m", "v1.0.0"), json!({ "kubectl.kubernetes.io/last-applied-configuration": note }));
        let apply = |manager: &str| format!("apply:{DEPLOYMENTS}/one?fieldManager={manager}");
        let merge = |manager: &str| format!("merge:{DEPLOYMENTS}/one?fieldManager={manager}");
        same(&[
            ("POST", &of(DEPLOYMENTS, "?fieldManager=kubectl-client-side-apply"), noted),
            ("PATCH", &apply("other"), object(spec("m", "v2.0.0"), json!({}))),
            ("PATCH", &apply("kubectl"), object(spec("m", "v2.0.0"), json!({ "a": "<b>" }))),
            ("PATCH", &merge("other"), json!({ "spec": { "version": "v3.0.0" } })),
            ("PATCH", &apply("kubectl"), object(spec("m", "v4.0.0"), json!({}))),
            ("PATCH", &format!("{}&force=true", apply("kubectl")), object(spec("m", "v4.0.0"), json!({}))),
        ])
        .await;
    });
}

#[test]
fn kubernetes_own_kinds_are_the_same() {
    scenario(|| async {
        let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s" }, "spec": { "clusterIP": "None", "selector": { "a": "b" }, "ports": [{ "port": 80, "name": "http" }, { "port": 443, "name": "https", "targetPort": "tls" }] } });
        let events = "/api/v1/namespaces/NS/events";
        let new_events = "/apis/events.k8s.io/v1/namespaces/NS/events";
        let event = json!({ "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": "e" }, "regarding": { "kind": "ModelPull", "name": "p", "namespace": "NAMESPACE" }, "reason": "Pulled", "note": "n", "type": "Normal", "action": "Pull", "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "c", "reportingInstance": "i" });
        let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "l" }, "spec": { "holderIdentity": "me", "leaseDurationSeconds": 15 } });
        let slice = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": { "name": "es" }, "addressType": "IPv4", "endpoints": [{ "addresses": ["10.0.0.1"] }], "ports": [{ "port": 80 }] });
        same(&[
            ("POST", new_events, event),
            ("GET", &of(events, "/e"), Value::Null),
            ("GET", &of(new_events, "/e"), Value::Null),
            (
                "PATCH",
                &format!("merge:{new_events}/e"),
                json!({ "series": { "count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z" } }),
            ),
            ("GET", &format!("table:{events}?fieldSelector=involvedObject.name=p"), Value::Null),
            ("GET", &of(events, "?fieldSelector=involvedObject.name=q"), Value::Null),
            ("POST", CONFIGMAPS, config("c", json!({ "a": "1" }))),
            ("PATCH", &format!("strategic:{CONFIGMAPS}/c"), json!({ "data": { "a": null, "b": "2" } })),
            (
                "PATCH",
                &format!("apply:{CONFIGMAPS}/c?fieldManager=x"),
                json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c" }, "data": { "c": "3" } }),
            ),
            ("PUT", &of(CONFIGMAPS, "/c"), config("c", json!({ "z": "1" }))),
            ("PATCH", &format!("merge:{CONFIGMAPS}/c"), json!({ "immutable": true })),
            ("PATCH", &format!("merge:{CONFIGMAPS}/c"), json!({ "data": { "z": "2" } })),
            ("GET", &format!("table:{CONFIGMAPS}/c"), Value::Null),
            ("DELETE", &of(CONFIGMAPS, "/c"), Value::Null),
            (
                "POST",
                "/api/v1/namespaces/NS/secrets",
                json!({ "metadata": { "name": "s" }, "stringData": { "k": "v" } }),
            ),
            (
                "POST",
                "/api/v1/namespaces/NS/secrets",
                json!({ "metadata": { "name": "t" }, "type": "mine", "data": { "k": "dg==" } }),
            ),
            ("PATCH", "merge:/api/v1/namespaces/NS/secrets/t", json!({ "type": "other" })),
            ("GET", "table:/api/v1/namespaces/NS/secrets", Value::Null),
            ("POST", "/api/v1/namespaces/NS/services", service),
            (
                "PATCH",
                "strategic:/api/v1/namespaces/NS/services/s",
                json!({ "spec": { "ports": [{ "port": 80, "name": "web" }] } }),
            ),
            (
                "PATCH",
                "strategic:/api/v1/namespaces/NS/services/s",
                json!({ "spec": { "ports": [{ "port": 443, "$patch": "delete" }] } }),
            ),
            ("POST", "/apis/coordination.k8s.io/v1/namespaces/NS/leases", lease),
            ("GET", "table:/apis/coordination.k8s.io/v1/namespaces/NS/leases/l", Value::Null),
            ("POST", "/apis/discovery.k8s.io/v1/namespaces/NS/endpointslices", slice),
            ("GET", "table:/apis/discovery.k8s.io/v1/namespaces/NS/endpointslices/es", Value::Null),
            ("GET", "/api/v1/namespaces/NS", Value::Null),
            ("GET", "table:/api/v1/namespaces/NS", Value::Null),
            ("PATCH", "merge:/api/v1/namespaces/NS", json!({ "metadata": { "labels": { "a": "b" } } })),
        ])
        .await;
    });
}

#[test]
fn watchers_see_the_same_changes() {
    scenario(|| async {
        let sides = [real().await, embedded().await];
        let namespace = namespace(&sides).await;
        let pulls = PULLS.replace("NS", &namespace);
        let mut seen = Vec::new();
        for side in &sides {
            let list = side.ask("GET", &pulls, &Value::Null).await;
            let revision = list.body["metadata"]["resourceVersion"].as_str().expect("a revision").to_owned();
            let labelled = json!({ "metadata": { "labels": { "watched": "yes" } } });
            side.ask("POST", &pulls, &pull("a", json!({ "model": "m" }))).await;
            side.ask("PATCH", &format!("merge:{pulls}/a"), &labelled).await;
            side.ask("PATCH", &format!("merge:{pulls}/a"), &json!({ "spec": { "required": true } })).await;
            side.ask("PATCH", &format!("merge:{pulls}/a"), &json!({ "metadata": { "labels": null } })).await;
            side.ask("PATCH", &format!("merge:{pulls}/a"), &labelled).await;
            side.ask("DELETE", &format!("{pulls}/a"), &Value::Null).await;
            side.ask("POST", &pulls, &pull("b", json!({ "model": "m" }))).await;
            let all = side.watch(&format!("{pulls}?watch=true&resourceVersion={revision}"), 7).await;
            let some = format!("{pulls}?watch=true&resourceVersion={revision}&labelSelector=watched");
            let some = side.watch(&some, 5).await;
            let now = side.watch(&format!("{pulls}?watch=true"), 1).await;
            let old = side.watch(&format!("{pulls}?watch=true&resourceVersion=1&timeoutSeconds=1"), 1).await;
            let mut events = json!([all, some, now]);
            clean(&mut events);
            seen.push(events);
            assert!(side.name == "embedded" || old[0]["object"]["code"] == 410, "{old:?}");
        }
        for (stream, real) in seen[0].as_array().expect("streams").iter().enumerate() {
            for (index, event) in real.as_array().expect("events").iter().enumerate() {
                assert_eq!(*event, seen[1][stream][index], "stream {stream}, event {index}");
            }
            assert_eq!(*real, seen[1][stream]);
        }
    });
}
