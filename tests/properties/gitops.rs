//! What GitOps tools make of Drover's objects: the health checks of `manifests/gitops/`, run by Lua and by CEL over objects of
//! every kind in every state.

use std::{fs, path::PathBuf};

use drover::{
    api,
    domain::{
        conditions::{self, Finding, READY, RECONCILING, STALLED},
        rollout::Decision,
    },
};
use jiff::Timestamp;
use kube::ResourceExt;
use mlua::{Lua, LuaSerdeExt, Table};
use serde_json::{Value, json};

use crate::rollout::with_canary;

/// One state of an object, and what the tools shall say.
struct Case {
    what: &'static str,
    status: Value,
    argo: &'static str,
    flux: &'static str,
}

fn file(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("manifests/gitops").join(name);
    serde_yaml::from_str(&fs::read_to_string(path).expect("the file is there")).expect("YAML")
}

/// What Argo CD says: the check whose wildcard covers the kind, on the Lua that Argo CD has (5.1).
fn argo(object: &Value) -> (String, String) {
    let text = file("argocd-cm.yaml")["data"]["resource.customizations"].as_str().expect("a text").to_owned();
    let customizations: Value = serde_yaml::from_str(&text).expect("YAML in YAML");
    let check = customizations["drover.dev/*"]["health.lua"].as_str().expect("a check").to_owned();
    let lua = Lua::new();
    lua.globals().set("obj", lua.to_value(object).expect("a table")).expect("a global");
    let health: Table = lua.load(check).eval().unwrap_or_else(|error| panic!("{error}: {object}"));
    (health.get("status").expect("a status"), health.get("message").expect("a message"))
}

/// What Flux says: the expressions of the object's kind in Flux's order; what can't be evaluated is in progress.
fn flux(object: &Value) -> &'static str {
    let kustomization = file("flux-kustomization.yaml");
    let checks = kustomization["spec"]["healthCheckExprs"].as_array().expect("a list").clone();
    let is_own = |check: &&Value| check["kind"] == object["kind"] && check["apiVersion"] == object["apiVersion"];
    let check = checks.iter().find(is_own).unwrap_or_else(|| panic!("no healthCheckExprs for {}", object["kind"]));
    let mut context = cel::Context::default();
    for (name, value) in object.as_object().expect("an object") {
        context.add_variable(name.as_str(), value).expect("a value");
    }
    let verdicts = [("inProgress", "InProgress"), ("failed", "Failed"), ("current", "Current")];
    for (name, verdict) in verdicts {
        let program = cel::Program::compile(check[name].as_str().expect("an expression")).expect("CEL");
        match program.execute(&context) {
            Ok(cel::Value::Bool(true)) => return verdict,
            Ok(cel::Value::Bool(false)) => {}
            _ => return "InProgress",
        }
    }
    "InProgress"
}

fn object(kind: &str, status: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "drover.dev/v1alpha1", "kind": kind, "metadata": {"name": "it", "generation": 2}, "spec": {},
    });
    if !status.is_null() {
        object["status"] = status.clone();
    }
    object
}

fn status(observed: i64, findings: Vec<Finding>) -> Value {
    let conditions = conditions::merge(&[], findings, Some(observed), Timestamp::UNIX_EPOCH);
    json!({"observedGeneration": observed, "conditions": conditions})
}

fn finding(type_: &'static str, holds: bool) -> Finding {
    Finding::new(type_, holds, "Because", format!("{type_} says why"))
}

#[track_caller]
fn check(kind: &str, case: &Case) {
    let object = object(kind, &case.status);
    let (health, message) = argo(&object);
    assert_eq!(health, case.argo, "Argo CD on {kind}, {}", case.what);
    assert!(!message.is_empty(), "Argo CD shows no reason for {kind}, {}", case.what);
    assert_eq!(flux(&object), case.flux, "Flux on {kind}, {}", case.what);
}

#[test]
fn objects_of_every_kind_are_healthy_progressing_or_degraded_as_their_conditions_say() {
    let cases = [
        Case { what: "not seen yet", status: Value::Null, argo: "Progressing", flux: "InProgress" },
        Case { what: "ready", status: status(2, vec![finding(READY, true)]), argo: "Healthy", flux: "Current" },
        Case {
            what: "ready, by a spec that has changed since",
            status: status(1, vec![finding(READY, true)]),
            argo: "Progressing",
            flux: "InProgress",
        },
        Case {
            what: "on its way",
            status: status(2, vec![finding(READY, false), finding(RECONCILING, true)]),
            argo: "Progressing",
            flux: "InProgress",
        },
        Case {
            what: "in need of help",
            status: status(2, vec![finding(READY, false), finding(STALLED, true)]),
            argo: "Degraded",
            flux: "Failed",
        },
        Case {
            what: "down, which may pass",
            status: status(2, vec![finding(READY, false)]),
            argo: "Degraded",
            flux: "InProgress",
        },
    ];
    for crd in api::crds() {
        cases.iter().for_each(|case| check(&crd.spec.names.kind, case));
        assert!(crd.name_any().ends_with(".drover.dev"), "the wildcard is for this group");
    }
}

/// The status of a deployment as the controller writes it after a decision.
fn deployment(decision: &Decision) -> Value {
    let mut status = status(2, decision.findings.clone());
    status["phase"] = json!(decision.phase);
    status
}

#[test]
fn a_rollout_is_healthy_on_its_way_suspended_while_held_and_degraded_once_taken_back() {
    let mut world = with_canary("v1.1.0");
    let on_its_way = deployment(&world.decide());
    world.commands.pause = Some(world.state.rollout_id.clone());
    let held = deployment(&world.decide());
    world.commands.abort = Some(world.state.rollout_id.clone());
    world.decide();
    world.served_by_all();
    let taken_back = deployment(&world.decide());
    let cases = [
        // A step of a day must not time out whoever waits.
        Case { what: "on its way", status: on_its_way, argo: "Healthy", flux: "Current" },
        Case { what: "held", status: held, argo: "Suspended", flux: "Current" },
        Case { what: "taken back", status: taken_back, argo: "Degraded", flux: "Failed" },
    ];
    cases.iter().for_each(|case| check("ModelDeployment", case));
}

#[test]
fn what_somebody_holds_is_suspended() {
    let mut pull = status(2, vec![finding(READY, false)]);
    pull["phase"] = json!(drover::domain::pull::Phase::Suspended);
    check("ModelPull", &Case { what: "suspended", status: pull, argo: "Suspended", flux: "InProgress" });
    let drained = status(2, vec![Finding::new(READY, false, "Maintenance", "drained by spec.maintenance".to_owned())]);
    check("OllamaNode", &Case { what: "drained", status: drained, argo: "Suspended", flux: "InProgress" });
}
