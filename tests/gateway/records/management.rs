//! `/drover/v1/runs…` as people and programs call it.

use std::{net::SocketAddr, process::Command, sync::Arc};

use arc_swap::ArcSwap;
use axum::{
    body::Body,
    extract::{ConnectInfo, Request},
};
use drover::{
    domain::{caller::RequireKey, run_record::Outcome},
    gateway::{self, Gateway, Settings, recorder::Recorder},
    ollama::Ollama,
    records::WhenDown,
    routing_table::Deployment,
};
use serde_json::{Value, json};
use tower::Service;

use super::{Store, answered, record, world};
use crate::{
    parts::{Scratch, drover::program},
    support::{Answer, FakeNode, World, canary, deployment, table, version},
};

const NOW: i64 = 1_795_000_000;

/// A gateway over some records.
async fn over_records(dir: &Scratch) -> (Store, World) {
    let store = Store::in_folder(dir.path());
    for second in 0..5 {
        store.records.commit(answered(NOW + second, "alpha", "n1")).await.expect("committed");
    }
    let mut broken = answered(NOW + 5, "beta", "n2");
    broken.outcome = Outcome::Broken;
    store.records.commit(broken).await.expect("committed");
    let world = world(table(None, &[]), &store, WhenDown::Refuse, false).await;
    (store, world)
}

#[tokio::test]
async fn runs_are_listed_page_by_page_and_shown_one_by_one() {
    let dir = Scratch::new();
    let (store, world) = over_records(&dir).await;
    let all = store.all().await;
    let page = world.get("/drover/v1/runs?limit=4").await.json();
    assert_eq!(page["items"], serde_json::to_value(&all[..4]).unwrap());
    let next = page["next"].as_str().expect("there is more");
    let rest = world.get(&format!("/drover/v1/runs?limit=4&cursor={next}")).await.json();
    assert_eq!(rest, json!({ "items": all[4..] }));
    let some =
        world.get("/drover/v1/runs?model=alpha&node=n1&outcome=answered&since=2026-11-18T00:00:00Z").await.json();
    assert_eq!(some["items"].as_array().map(Vec::len), Some(5), "{some}");

    let one = world.get(&format!("/drover/v1/runs/{}", all[0].id)).await;
    assert_eq!((one.status, one.json()), (200, serde_json::to_value(&all[0]).unwrap()));
    assert_eq!(one.json()["startedAt"], "2026-11-18T11:06:45Z");
    let cases = [
        ("?limit=0", 400, "limit = \"0\": write a number from 1 to 1000"),
        ("?limit=1001", 400, "limit = \"1001\""),
        ("?limit=51&capture=true", 400, "write a number from 1 to 50"),
        ("?capture=yes", 400, "write true or false"),
        ("?since=yesterday", 400, "write a time such as"),
        ("?outcome=Good", 400, "Answered, Broken"),
        ("?cursor=1", 400, "write the `next` of the page before"),
        ("?modle=alpha", 400, "modle: there is no such filter"),
        ("/7", 400, "32 hex digits"),
        ("/00000000000000000000000000000007", 404, "there is no record of run"),
    ];
    for (end, status, says) in cases {
        let answer = world.get(&format!("/drover/v1/runs{end}")).await;
        let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status == status && message.contains(says), "{end}: {} {message}", answer.status);
    }
}

#[tokio::test]
async fn feedback_is_kept_with_the_record() {
    let dir = Scratch::new();
    let (store, world) = over_records(&dir).await;
    let run = store.all().await.remove(0);
    let path = format!("/drover/v1/runs/{}/feedback", run.id);
    let feedback = json!({ "score": 0.25, "comment": "Made up a name." });
    assert_eq!(world.post(&path, &feedback).await.json(), json!({ "id": run.id, "feedback": feedback }));
    assert_eq!(world.get(&format!("/drover/v1/runs/{}", run.id)).await.json()["feedback"], feedback);
    for bad in [
        json!({ "score": 1.5 }),
        json!({ "score": "good" }),
        json!({}),
        json!({ "score": 1, "comment": "x".repeat(5_000) }),
    ] {
        assert_eq!(world.post(&path, &bad).await.status, 400, "{bad}");
    }
    let nobodys = format!("/drover/v1/runs/{}/feedback", record(NOW).id);
    assert_eq!(world.post(&nobodys, &feedback).await.status, 404);
}

#[tokio::test]
async fn the_first_score_of_a_run_counts_for_the_version_that_answered() {
    let dir = Scratch::new();
    let store = Store::in_folder(dir.path());
    let node = FakeNode::start("n1").await;
    let sticky = Deployment {
        sticky_header: Some("x-session-id".into()),
        ..deployment(version("v1.0.0", &[&node]), canary(100, version("v1.1.0", &[&node])))
    };
    let world = world(table(Some(sticky), &[]), &store, WhenDown::Refuse, false).await;
    let body = json!({ "model": "support-bot", "stream": false });
    let scored = async |session: &str, scores: &[f64]| {
        let request = world.request("/api/chat", &body).header("x-session-id", session);
        let answer = Answer::read(request.send().await.unwrap()).await;
        for score in scores {
            let path = format!("/drover/v1/runs/{}/feedback", answer.header("x-drover-run-id"));
            assert_eq!(world.post(&path, &json!({ "score": score })).await.status, 200);
        }
    };
    let counts = async || {
        let counts = world.stats().await.deployments[0].versions["v1.1.0"].clone();
        (counts.rated, counts.disliked)
    };
    scored("", &[0.0, 1.0, 0.2]).await;
    assert_eq!(counts().await, (1, 1), "what somebody thinks later of the same answer");
    scored("", &[0.5]).await;
    assert_eq!(counts().await, (2, 1));
    for _ in 0..3 {
        scored("anna", &[0.1]).await;
    }
    assert_eq!(counts().await, (3, 2), "a session is one voice");
    world.table.store(table(Some(deployment(version("v1.0.0", &[&node]), None)), &[]).into());
    scored("", &[0.0]).await;
    let stats = world.stats().await.deployments[0].versions.clone();
    assert_eq!((stats["v1.0.0"].rated, stats["v1.1.0"].rated), (1, 3));
}

#[tokio::test]
async fn records_are_shown_to_this_machine_alone_unless_they_are_opened() {
    let dir = Scratch::new();
    let store = Store::in_folder(dir.path());
    for open in [false, true] {
        let recorder = Recorder::storing(store.records.clone(), WhenDown::Refuse, false);
        // Nobody is asked for a key: it is about those who have none.
        let settings = Settings { management_open: open, require_key: RequireKey::Nobody, ..Settings::default() };
        let table = Arc::new(ArcSwap::from_pointee(table(None, &[])));
        let ollama = Arc::new(Ollama::new().unwrap());
        let mut router = gateway::router(Gateway::recording(table, ollama, settings, recorder));
        let cases = [
            ("127.0.0.1:1", None, 200),
            ("[::1]:1", None, 200),
            ("[::ffff:127.0.0.1]:1", None, 200),
            ("10.0.0.7:1", None, 403),
            ("127.0.0.1:1", Some("x-forwarded-for"), 403),
            ("127.0.0.1:1", Some("forwarded"), 403),
        ];
        for (peer, header, status) in cases {
            let mut request =
                Request::get("/drover/v1/runs").extension(ConnectInfo::<SocketAddr>(peer.parse().unwrap()));
            if let Some(header) = header {
                request = request.header(header, "10.0.0.7");
            }
            let answer = router.call(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), if open { 200 } else { status }, "{peer} {header:?} {open}");
        }
    }
}

#[tokio::test]
async fn a_gateway_without_records_says_so() {
    let world = World::start(table(None, &[])).await;
    let answer = world.get("/drover/v1/runs").await;
    assert_eq!(answer.status, 404);
    assert!(answer.text.contains("this gateway keeps no run records"), "{}", answer.text);
}

/// What `drover runs …` prints, and whether it did what it was asked to.
async fn drover(world: &World, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(program());
    command.arg("runs").args(arguments).env("DROVER_GATEWAY", &world.url);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_lists_shows_exports_and_takes_feedback() {
    let dir = Scratch::new();
    let (store, world) = over_records(&dir).await;
    let all = store.all().await;
    let (_, listed) = drover(&world, &["list", "--limit", "2"]).await;
    let lines: Vec<&str> = listed.lines().collect();
    assert!(
        lines.len() == 3 && lines[0].starts_with("RUN ") && lines[1].starts_with(&all[0].id.to_string()),
        "{listed}"
    );
    assert!(lines[1].contains("Broken") && lines[1].contains("beta") && lines[1].contains("n2"), "{listed}");
    let (_, names) =
        drover(&world, &["list", "--model", "alpha", "--until", "2026-11-18T11:06:42Z", "-o", "name"]).await;
    assert_eq!(names, format!("{}\n{}\n", all[4].id, all[5].id));
    assert_eq!(drover(&world, &["list", "--model", "nobody"]).await.1, "drover: no run is on record that fits\n");
    let (_, exported) = drover(&world, &["export"]).await;
    let exported: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json!(exported), serde_json::to_value(&all).unwrap());

    let id = all[0].id.to_string();
    assert!(drover(&world, &["feedback", &id, "0.5", "--comment", "So so."]).await.0);
    let (_, shown) = drover(&world, &["show", &id]).await;
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["feedback"]["comment"], "So so.");
    let (done, refused) = drover(&world, &["replay", &id]).await;
    assert!(!done && refused.contains("409") && refused.contains("was not kept"), "{refused}");
    let (done, away) = drover(&world, &["list", "--gateway", "http://127.0.0.1:1"]).await;
    assert!(!done && away.contains("say with --gateway where it is"), "{away}");
}
