//! What people and GitOps tools do to a rollout: commands, what they leave in the audit, and manifests that are applied again.

use std::{collections::HashSet, process::Stdio};

use serde_json::{Value, json};

use crate::{
    bot::{serving_fleet, serving_fleet_alone},
    fleet::{Fleet, deployment_manifest},
    namespace::{SOON, condition},
    support::{Scratch, drover::program, eventually, kube_api::Server},
    terminal::Terminal,
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
    let idle = "bot: no rollout is under way: v1.0.0 has all requests";
    refused(&fleet, &["promote"], &[idle]).await;
    refused(&fleet, &["resume"], &[idle]).await;
    refused(&fleet, &["pause"], &[idle, "spec.paused holds the next one"]).await;
    refused(&fleet, &["abort"], &[idle, "`drover rollout undo bot` takes back what is live"]).await;
    refused(&fleet, &["retry"], &["nothing was taken back", "v1.0.0 has all requests"]).await;
    refused(&fleet, &["undo"], &["there is no earlier version than v1.0.0", "--to VERSION"]).await;
    refused(&fleet, &["undo", "--to", "one"], &["--to one: write a version such as v1.0.0"]).await;
    assert_eq!(fleet.follow(&[]).await.0, Some(0), "v1.0.0 serves");

    fleet.apply(&deployment_manifest("v1.1.0", STEP)).await;
    fleet.until("mdep", "bot", "20 %", |s| s["canary"]["weight"] == 20).await;
    fleet.kubectl(&["wait", "--for=condition=Progressing", "mdep/bot", "--timeout=30s"]).await;
    let (code, lines) = fleet.follow(&["--timeout", "1s"]).await;
    assert_eq!(code, Some(2), "a step of an hour is not over in a second: {lines}");
    assert!(lines.contains("bot: Progressing: v1.0.0 has 80 %, v1.1.0 has 20 %"), "{lines}");

    watched_on_a_terminal(&fleet).await;
    held_and_let_go(&fleet).await;
    let status = fleet.rollout(&["status"]).await.expect("status");
    assert!(status.contains("canary     50 %  v1.1.0") && status.contains("step 2 of 2, left in "), "{status}");
    let terminal = Terminal::open(&fleet);
    terminal.shows(&["50 %  v1.0.0", "50 %  v1.1.0"]).await;
    fleet.rollout(&["abort"]).await.expect("abort");
    let (code, rest) = terminal.ended().await;
    assert_eq!(code, Some(1), "it was taken back: {rest}");
    assert!(rest.contains("bot (Degraded)") && rest.contains("rejected         v1.1.0"), "{rest}");
    fleet.kubectl(&["wait", "--for=condition=Stalled", "mdep/bot", "--timeout=30s"]).await;
    fleet.kubectl(&["wait", "--for=condition=Ready=false", "mdep/bot", "--timeout=30s"]).await;
    assert_eq!(fleet.follow(&[]).await.0, Some(1), "v1.1.0 was called off");
    let again = "v1.1.0 was taken back; `drover rollout retry bot` tries it again";
    refused(&fleet, &["promote"], &["no rollout is under way", again]).await;
    refused(&fleet, &["undo"], &["there is no earlier version than v1.0.0"]).await;
    fleet.rollout(&["retry"]).await.expect("retry");
    fleet.until("mdep", "bot", "20 % again", |s| s["canary"]["weight"] == 20).await;
    taken_back_by_name(&fleet).await;
    told_once(&mut fleet).await;
}

/// A command that can't be obeyed says what is wrong and what to do.
async fn refused(fleet: &Fleet, arguments: &[&str], parts: &[&str]) {
    let said = fleet.rollout(arguments).await.expect_err("it can't be obeyed");
    for part in parts {
        assert!(said.contains(part), "{arguments:?}: {part} is not in {said}");
    }
}

/// At 20 %: bars, a countdown, and an interruption that leaves the rollout as it is.
async fn watched_on_a_terminal(fleet: &Fleet) {
    let mut terminal = Terminal::open(fleet);
    let bars = [format!("{}{}  80 %  v1.0.0", "█".repeat(32), "░".repeat(8)), "  20 %  v1.1.0".into()];
    terminal.shows(&[&bars[0], &bars[1], "bot (Progressing)", "step 1 of 2, left in 59m"]).await;
    terminal.counts_down().await;
    terminal.press_ctrl_c().await;
    let (code, rest) = terminal.ended().await;
    assert_eq!(code, Some(130), "interrupted: {rest}");
    assert!(rest.contains("bot (Progressing)") && rest.contains("canary     20 %  v1.1.0"), "{rest}");
    assert_eq!(fleet.get("mdep", "bot").await["status"]["canary"]["weight"], 20);
}

async fn held_and_let_go(fleet: &Fleet) {
    fleet.rollout(&["pause"]).await.expect("pause");
    fleet.kubectl(&["wait", "--for=condition=Paused", "mdep/bot", "--timeout=30s"]).await;
    let said = fleet.rollout(&["promote"]).await.expect("promote");
    assert!(said.contains("v1.1.0 goes from 20 % to 50 % of requests, once it is no longer held"), "{said}");
    // Whoever applies the manifest again does not let it go.
    fleet.apply(&deployment_manifest("v1.1.0", STEP)).await;
    let held = fleet.until("mdep", "bot", "held", |s| s["phase"] == "Paused").await;
    assert_eq!(held["status"]["canary"]["weight"], 20);
    assert!(condition(&held["status"], "Ready", "True"), "what is held serves");
    fleet.rollout(&["resume"]).await.expect("resume");
    fleet.until("mdep", "bot", "50 %", |s| s["canary"]["weight"] == 50 && s["phase"] == "Progressing").await;
    refused(fleet, &["resume"], &["v1.1.0: it is not held", "`drover rollout status bot`"]).await;
    refused(fleet, &["retry"], &["nothing was taken back", "v1.1.0 is on trial"]).await;
}

async fn taken_back_by_name(fleet: &Fleet) {
    for (version, why) in [("v9.9.9", "there is no ModelVersion v9.9.9"), ("v1.1.0", "v1.1.0 is on trial")] {
        refused(fleet, &["undo", "--to", version], &[why]).await;
    }
    fleet.rollout(&["promote"]).await.expect("promote");
    fleet.until("mdep", "bot", "50 %", |s| s["canary"]["weight"] == 50).await;
    let said = fleet.rollout(&["promote"]).await.expect("promote");
    assert!(said.contains("v1.1.0 goes from 50 % to all requests"), "{said}");
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
    shown_to_this_machine_only(fleet).await;
    fleet.controller.kill9();
    let fallback = fleet.drover(&["audit", "-n", &fleet.name, "--controller", &fleet.controller.health_url()]).await;
    assert!(fallback.expect_err("nobody is there").contains("no controller answers"));
    // Where nobody answers, and where somebody answers who keeps none.
    statuses_tell(fleet, &fleet.controller.health_url(), "no controller answers", &before).await;
    statuses_tell(fleet, &fleet.gateways[0].health_url(), "it keeps no audit", &before).await;
    fleet.controller.restart_with(&[("DROVER_MANAGEMENT_OPEN", "true")]).await;
    assert_eq!(audit_as(fleet, "192.0.2.7", "limit=1").await.0, 200, "management-open shows it to everybody");
    fleet.controller.restart().await;
    fleet.wait_for_controller().await;
    assert_eq!(fleet.audit().await, before, "a restart repeats or loses entries");
    assert_eq!(fleet.events("ModelDeployment", "bot").await, published, "a restart repeats events");
    let own = fleet.get("mver", "bot-v1.1.0").await["status"]["audit"].clone();
    let own = own.as_array().expect("an audit");
    assert!(own.len() >= 8 && own.len() <= 20 && own.iter().all(|entry| entry["deployment"] == "bot"), "{own:?}");
}

/// What the controller answers to somebody for whom a proxy asks: status and body.
async fn audit_as(fleet: &Fleet, caller: &str, query: &str) -> (u16, String) {
    let url = format!("{}/drover/v1/audit?{query}", fleet.controller.health_url());
    let answer = fleet.http.get(url).header("x-forwarded-for", caller).send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a text"))
}

async fn shown_to_this_machine_only(fleet: &Fleet) {
    let (status, said) = audit_as(fleet, "192.0.2.7", "limit=1").await;
    assert!(status == 403 && said.contains("management-open") && !said.contains("items"), "{status} {said}");
    let url = format!("{}/drover/v1/audit", fleet.controller.health_url());
    for (query, status, part) in
        [("limit=1", 200, "items"), ("limit=0", 400, "limit: 0"), ("who=me", 400, "who: write")]
    {
        let answer = fleet.http.get(format!("{url}?{query}")).send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{query}");
        assert!(answer.text().await.expect("a text").contains(part), "{query}");
    }
}

/// `drover audit` as people run it beside a `drover up`, whose health port is said to be there.
async fn statuses_tell(fleet: &Fleet, health: &str, why: &str, expected: &[Value]) {
    let (scratch, kubeconfig) = (Scratch::new(), fleet.api.kubeconfig());
    let ready = json!({ "api": "", "kubeconfig": kubeconfig, "gateway": "", "mirror": "", "health": health });
    std::fs::write(scratch.join("ready.json"), ready.to_string()).expect("written");
    let mut command = tokio::process::Command::new(program());
    command.args(["audit", "-n", &fleet.name, "-o", "json"]).env("DROVER_DATA_DIR", scratch.path());
    let output = command.env("KUBECONFIG", kubeconfig).kill_on_drop(true).output().await.expect("drover starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(why) && said.contains("the statuses of ModelDeployments have their last entries"), "{said}");
    let mut told: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    told.sort_by_key(|entry| entry["number"].as_u64());
    assert_eq!(told, expected, "a status has the last twenty");
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
