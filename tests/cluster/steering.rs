//! What people and GitOps tools do to a rollout: commands, what they leave in the audit, and manifests that are applied again.

use std::{collections::HashSet, process::Stdio};

use serde_json::Value;

use crate::{
    bot::{serving_fleet, serving_fleet_alone},
    fleet::{Fleet, deployment_manifest},
    namespace::{SOON, condition},
    support::{drover::program, eventually, kube_api::Server},
    world::on_both_apis,
};

/// Longer than any test.
const STEP: &str = "1h";

on_both_apis! {
    people_steer_a_rollout_and_the_audit_says_who,
    git_says_the_same_again_and_nothing_happens,
}

impl Fleet {
    /// What the controller has on record, the oldest first.
    async fn audit(&self) -> Vec<Value> {
        let url = self.controller.health_url();
        let text = self.drover(&["audit", "-n", &self.name, "--controller", &url, "-o", "json"]).await;
        let mut entries: Vec<Value> = serde_json::from_str(&text.expect("the audit")).expect("JSON");
        entries.reverse();
        entries
    }

    /// `drover rollout status -w`: its exit code and what it printed.
    async fn follow(&self, more: &[&str]) -> (Option<i32>, String) {
        let mut command = tokio::process::Command::new(program());
        command.args(["rollout", "status", "bot", "-w", "-n", &self.name]).args(more);
        command.env("KUBECONFIG", self.api.kubeconfig()).stdout(Stdio::piped()).kill_on_drop(true);
        let output = command.output().await.expect("drover starts");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

async fn people_steer_a_rollout_and_the_audit_says_who(server: Server) {
    let mut fleet = serving_fleet(server, STEP).await;
    assert!(fleet.rollout(&["pause"]).await.expect_err("nothing to hold").contains("no rollout is under way"));
    assert!(fleet.rollout(&["abort"]).await.expect_err("nothing to abort").contains("no rollout is under way"));
    assert_eq!(fleet.follow(&[]).await.0, Some(0), "v1.0.0 serves");

    fleet.apply(&deployment_manifest("v1.1.0", STEP)).await;
    fleet.until("mdep", "bot", "20 %", |s| s["canary"]["weight"] == 20).await;
    fleet.kubectl(&["wait", "--for=condition=Progressing", "mdep/bot", "--timeout=30s"]).await;
    let (code, lines) = fleet.follow(&["--timeout", "1s"]).await;
    assert_eq!(code, Some(2), "a step of an hour is not over in a second: {lines}");
    assert!(lines.contains("bot: Progressing: v1.0.0 has 80 %, v1.1.0 has 20 %"), "{lines}");

    held_and_let_go(&fleet).await;
    let status = fleet.rollout(&["status"]).await.expect("status");
    assert!(status.contains("canary     50 %  v1.1.0") && status.contains("step 2 of 2, left in "), "{status}");
    fleet.rollout(&["abort"]).await.expect("abort");
    fleet.kubectl(&["wait", "--for=condition=Stalled", "mdep/bot", "--timeout=30s"]).await;
    fleet.kubectl(&["wait", "--for=condition=Ready=false", "mdep/bot", "--timeout=30s"]).await;
    assert_eq!(fleet.follow(&[]).await.0, Some(1), "v1.1.0 was called off");
    fleet.rollout(&["retry"]).await.expect("retry");
    fleet.until("mdep", "bot", "20 % again", |s| s["canary"]["weight"] == 20).await;
    taken_back_by_name(&fleet).await;
    told_once(&mut fleet).await;
}

async fn held_and_let_go(fleet: &Fleet) {
    fleet.rollout(&["pause"]).await.expect("pause");
    fleet.kubectl(&["wait", "--for=condition=Paused", "mdep/bot", "--timeout=30s"]).await;
    assert!(fleet.rollout(&["promote"]).await.expect("promote").contains("once it is no longer held"));
    // Whoever applies the manifest again does not let it go.
    fleet.apply(&deployment_manifest("v1.1.0", STEP)).await;
    let held = fleet.until("mdep", "bot", "held", |s| s["phase"] == "Paused").await;
    assert_eq!(held["status"]["canary"]["weight"], 20);
    assert!(condition(&held["status"], "Ready", "True"), "what is held serves");
    fleet.rollout(&["resume"]).await.expect("resume");
    fleet.until("mdep", "bot", "50 %", |s| s["canary"]["weight"] == 50 && s["phase"] == "Progressing").await;
    assert!(fleet.rollout(&["resume"]).await.expect_err("is not held").contains("it is not held"));
}

async fn taken_back_by_name(fleet: &Fleet) {
    for (version, why) in [("v9.9.9", "there is no ModelVersion v9.9.9"), ("v1.1.0", "v1.1.0 is on trial")] {
        let refused = fleet.rollout(&["undo", "--to", version]).await.expect_err("can't be gone back to");
        assert!(refused.contains(why), "{refused}");
    }
    fleet.rollout(&["promote"]).await.expect("promote");
    fleet.until("mdep", "bot", "50 %", |s| s["canary"]["weight"] == 50).await;
    fleet.rollout(&["promote"]).await.expect("promote");
    fleet.until("mdep", "bot", "v1.1.0 has all", |s| s["phase"] == "Healthy").await;
    let said = fleet.rollout(&["undo", "--to", "v1.0.0"]).await.expect("undo");
    assert!(said.contains("going back from v1.1.0 to v1.0.0"), "{said}");
    fleet.until("mdep", "bot", "v1.0.0 has all", |s| s["stable"]["version"] == "v1.0.0").await;
    fleet.until("mdep", "bot", "it is served", |s| s["lastRollback"]["effectiveAt"].is_string()).await;
    let history = fleet.rollout(&["history"]).await.expect("history");
    let row = history.lines().find(|line| line.contains("RolledBack")).expect("a row");
    let cells = ["v1.1.0", "v1.0.0", "undone by drover rollout undo", "drover-cli (unverified)"];
    assert!(cells.iter().all(|cell| row.contains(cell)), "{history}");
}

/// Everything that was done is on record once, whoever is killed, and in the version's status.
async fn told_once(fleet: &mut Fleet) {
    let expected = [
        ("Deployed", "kubectl"),
        ("RolloutStarted", "kubectl"),
        ("Paused", "drover-cli"),
        ("StepStarted", "drover-cli"),
        ("Resumed", "drover-cli"),
        ("RolledBack", "drover-cli"),
        ("RollbackEffective", "drover"),
        ("Retrying", "drover-cli"),
        ("RolloutStarted", "kubectl"),
        ("NothingToUndo", "drover-cli"),
        ("NothingToUndo", "drover-cli"),
        ("StepStarted", "drover-cli"),
        ("Deployed", "drover-cli"),
        ("RolledBack", "drover-cli"),
        ("RollbackEffective", "drover"),
    ];
    let told = |entries: &[Value]| -> Vec<(String, String)> {
        let text = |entry: &Value, field: &str| entry[field].as_str().expect("a text").to_owned();
        entries.iter().map(|entry| (text(entry, "action"), text(entry, "by"))).collect()
    };
    let complete = async || {
        let entries = fleet.audit().await;
        if entries.len() >= expected.len() { Ok(entries) } else { Err(format!("{entries:?}")) }
    };
    let before = eventually("the audit is complete", SOON, complete).await;
    let actions = told(&before);
    assert_eq!(actions.len(), expected.len(), "{actions:#?}");
    for ((action, by), (expected, who)) in actions.iter().zip(expected) {
        let is_known = by == who || (by.starts_with(who) && by.ends_with(" (unverified)"));
        assert!(action == expected && is_known, "{action} by {by}, not {expected} by {who}: {actions:#?}");
    }
    let numbers: HashSet<u64> = before.iter().filter_map(|entry| entry["number"].as_u64()).collect();
    assert_eq!(numbers.len(), before.len(), "an entry is there twice");

    let published = fleet.events("ModelDeployment", "bot").await;
    fleet.controller.kill9();
    let fallback = fleet.drover(&["audit", "-n", &fleet.name, "--controller", &fleet.controller.health_url()]).await;
    assert!(fallback.expect_err("nobody is there").contains("no controller answers"));
    fleet.controller.restart().await;
    fleet.wait_for_controller().await;
    assert_eq!(fleet.audit().await, before, "a restart repeats or loses entries");
    assert_eq!(fleet.events("ModelDeployment", "bot").await, published, "a restart repeats events");
    let own = fleet.get("mver", "bot-v1.1.0").await["status"]["audit"].clone();
    let own = own.as_array().expect("an audit");
    assert!(own.len() >= 8 && own.len() <= 20 && own.iter().all(|entry| entry["deployment"] == "bot"), "{own:?}");
}

impl Fleet {
    /// Waits until the controller has answered a change, and with it all that came before.
    async fn wait_for_controller(&self) {
        self.patch("mdep", "bot", r#"{"spec": {"rollbackWindow": 3}}"#).await;
        eventually("the controller answers", SOON, async || {
            let object = self.get("mdep", "bot").await;
            let is_answered = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            if is_answered { Ok(()) } else { Err("not yet") }
        })
        .await;
    }
}

async fn git_says_the_same_again_and_nothing_happens(server: Server) {
    let fleet = serving_fleet_alone(server, STEP).await;
    let manifest = deployment_manifest("v1.1.0", STEP);
    fleet.apply(&manifest).await;
    fleet.until("mdep", "bot", "20 %", |s| s["canary"]["weight"] == 20).await;
    the_spec_is_the_users(&fleet).await;
    applied_again(&fleet, &manifest, "while a canary is under way").await;
    fleet.rollout(&["undo"]).await.expect("undo");
    fleet.until("mdep", "bot", "taken back", |s| s["phase"] == "Degraded").await;
    // Git still says v1.1.0, and a push of something else makes the controller look at it once more.
    applied_again(&fleet, &manifest, "after a rollback").await;
    fleet.wait_for_controller().await;
    let after = fleet.get("mdep", "bot").await["status"].clone();
    assert_eq!((&after["phase"], &after["rejected"]["version"]), (&"Degraded".into(), &"v1.1.0".into()), "{after}");
    assert_eq!(after["stable"]["weight"], 100);
    the_spec_is_the_users(&fleet).await;
}

/// Of all the managers of fields, Drover's own have the status and annotations at most.
async fn the_spec_is_the_users(fleet: &Fleet) {
    for kind in ["mdep", "mver", "mpull", "onode"] {
        let text = fleet.kubectl(&["get", kind, "-o", "json", "--show-managed-fields"]).await;
        let list: Value = serde_json::from_str(&text).expect("JSON");
        let items = list["items"].as_array().expect("a list");
        let entries = items.iter().flat_map(|item| item["metadata"]["managedFields"].as_array().expect("managers"));
        let own = entries.filter(|entry| entry["manager"].as_str().is_some_and(|name| name.starts_with("drover")));
        let mut count = 0;
        for entry in own {
            assert!(entry["fieldsV1"]["f:spec"].is_null(), "{kind}: {entry}");
            count += 1;
        }
        assert!(count > 0, "{kind}: Drover manages nothing");
    }
}

/// The same manifest again, by `kubectl apply` and as GitOps tools do it.
async fn applied_again(fleet: &Fleet, manifest: &str, when: &str) {
    let server_side = async || {
        let arguments =
            ["apply", "-n", &fleet.name, "--server-side", "--force-conflicts", "--field-manager=gitops", "-f", "-"];
        fleet.api.kubectl_ok(&arguments, Some(manifest)).await;
    };
    // The first time a tool becomes an owner of the fields, by which the other's ownership changes.
    fleet.apply(manifest).await;
    unchanged(fleet, when, async || fleet.apply(manifest).await).await;
    server_side().await;
    unchanged(fleet, when, server_side).await;
}

/// Does something three times that must not change the deployment.
async fn unchanged(fleet: &Fleet, when: &str, act: impl AsyncFn()) {
    let before = fleet.get("mdep", "bot").await;
    let events = fleet.events("ModelDeployment", "bot").await;
    for _ in 0..3 {
        act().await;
    }
    let after = fleet.get("mdep", "bot").await;
    let metadata = |object: &Value, field: &str| object["metadata"][field].clone();
    for field in ["resourceVersion", "generation"] {
        assert_eq!(metadata(&after, field), metadata(&before, field), "{field} changed {when}");
    }
    assert_eq!(after["status"], before["status"], "the status changed {when}");
    assert_eq!(fleet.events("ModelDeployment", "bot").await, events, "there are new events {when}");
}
