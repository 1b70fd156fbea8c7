//! The process is killed while it writes, again and again: what was acknowledged stays, revisions never go back, and a
//! watcher goes on without a gap or a repetition.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::Path,
    process::Command,
    time::Duration,
};

use futures::StreamExt;
use serde_json::{Value, json};

use crate::{
    sides::{Embedded, Side, scenario},
    support::{Scratch, eventually, process::Process},
};

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";
const SOON: Duration = Duration::from_secs(60);
/// How many objects the writer leaves before it deletes the oldest.
const KEPT: usize = 30;

/// A change by its revision: what happened to which object.
type Changes = BTreeMap<u64, (String, String)>;

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().expect("a revision").parse().expect("a number")
}

/// What a killed process does: it writes, and says what was acknowledged. Run by the test below only.
#[test]
#[ignore = "runs until it is killed"]
fn writes_until_it_is_killed() {
    scenario(|| async {
        let folder = std::env::var("DROVER_TEST_STATE").expect("the folder of the state");
        let embedded = Embedded::start(Path::new(&folder)).await;
        let side = Side::embedded(&embedded).await;
        let say = |line: String| std::io::stderr().write_all(line.as_bytes()).expect("a line");
        say("listening\n".into());
        // Not the process's number: in a thousand rounds those come again.
        let round = std::env::var("DROVER_TEST_ROUND").expect("the round");
        let name = |number: usize| format!("{round}-{number}");
        for number in 0.. {
            let object = json!({ "metadata": { "name": name(number) } });
            let made = side.ask("POST", CONFIGMAPS, &object).await;
            say(format!("acknowledged ADDED {} {}\n", name(number), revision(&made.body)));
            let path = format!("{CONFIGMAPS}/{}", name(number));
            let changed = side.ask("PATCH", &format!("merge:{path}"), &json!({ "data": { "a": "b" } })).await;
            say(format!("acknowledged MODIFIED {} {}\n", name(number), revision(&changed.body)));
            if number >= KEPT {
                let old = name(number - KEPT);
                let answer = side.ask("DELETE", &format!("{CONFIGMAPS}/{old}"), &Value::Null).await;
                assert_eq!(answer.code, 200, "{}", answer.body);
                say(format!("acknowledged DELETED {old} 0\n"));
            }
        }
    });
}

/// Starts the writer; it listens when this returns.
async fn writer(round: usize, scratch: &Scratch) -> Process {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--ignored", "--exact", "--nocapture", "kills::writes_until_it_is_killed"]);
    command.env("DROVER_TEST_STATE", scratch.join("state")).env("DROVER_TEST_ROUND", round.to_string());
    let mut process = Process::spawn(&format!("writer-{round}"), command, scratch.path());
    eventually("it listens", SOON, async || {
        let listens = process.log().contains("listening\n");
        if listens { Ok(()) } else { Err(process.diagnosis()) }
    })
    .await;
    process
}

/// The whole lines that say what was acknowledged: what happened, to which object, with which revision.
fn acknowledged(process: &Process) -> Vec<(String, String, u64)> {
    let log = process.log();
    let lines = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let words = lines.map(|line| line.split(' ').collect::<Vec<_>>());
    let said = words.filter_map(|words| match words[..] {
        [.., "acknowledged", event, name, revision] => Some((event.into(), name.into(), revision.parse().ok()?)),
        _ => None,
    });
    said.collect()
}

/// Watches from the last change that was seen on, or else from `start`, until the other side is gone or `until` was seen.
async fn watch(side: &Side, seen: &mut Changes, start: u64, until: u64) {
    let last = seen.last_key_value().map_or(start, |(revision, _)| *revision);
    let mut lines = side.lines(&format!("{CONFIGMAPS}?watch=true&resourceVersion={last}")).await.boxed();
    while seen.last_key_value().is_none_or(|(revision, _)| *revision < until)
        && let Some(event) = lines.next().await
    {
        let (kind, object) = (event["type"].as_str().expect("a type").to_owned(), &event["object"]);
        assert_ne!(kind, "ERROR", "{event}");
        let newest = seen.last_key_value().map_or(start, |(revision, _)| *revision);
        assert!(newest < revision(object), "{} came after {newest}", revision(object));
        seen.insert(revision(object), (kind, object["metadata"]["name"].as_str().expect("a name").into()));
    }
}

#[test]
fn what_was_acknowledged_outlives_kills() {
    let rounds = std::env::var("DROVER_KILLS").map_or(50, |rounds| rounds.parse().expect("DROVER_KILLS: a number"));
    scenario(|| async {
        let scratch = Scratch::new();
        let (mut seen, mut promised) = (Changes::new(), Vec::new());
        let empty = Embedded::start(&scratch.join("state")).await;
        let start = revision(&Side::embedded(&empty).await.ask("GET", CONFIGMAPS, &Value::Null).await.body);
        drop(empty);
        for round in 0..rounds {
            let mut process = writer(round, &scratch).await;
            let side = Side::of(&scratch.join("state/kubeconfig"));
            let wanted = 5 + rand::random_range(0..60);
            let killed = async {
                eventually("it writes", SOON, async || {
                    let count = acknowledged(&process).len();
                    if count > wanted { Ok(()) } else { Err(process.diagnosis()) }
                })
                .await;
                tokio::time::sleep(Duration::from_micros(rand::random_range(0..3000))).await;
                process.kill9();
            };
            tokio::join!(killed, watch(&side, &mut seen, start, u64::MAX));
            promised.extend(acknowledged(&process));
        }
        let embedded = Embedded::start(&scratch.join("state")).await;
        let side = Side::embedded(&embedded).await;
        let list = side.ask("GET", CONFIGMAPS, &Value::Null).await.body;
        // The last change may be of another kind; one of this kind ends the watch.
        let end = side.ask("POST", CONFIGMAPS, &json!({ "metadata": { "name": "end" } })).await.body;
        watch(&side, &mut seen, start, revision(&end)).await;

        for (event, name, revision) in &promised {
            match event.as_str() {
                "DELETED" => assert!(seen.values().any(|change| *change == (event.clone(), name.clone())), "{name}"),
                _ => assert_eq!(seen.get(revision), Some(&(event.clone(), name.clone())), "{revision}"),
            }
        }
        let newest = promised.iter().map(|(_, _, revision)| *revision).max().expect("something was written");
        assert!(revision(&list) >= newest, "revisions went back from {newest} to {}", revision(&list));
        let mut left = BTreeSet::new();
        for (event, name) in seen.values() {
            if event == "DELETED" { assert!(left.remove(name), "{name}") } else { _ = left.insert(name.clone()) }
        }
        left.remove("end");
        let items = list["items"].as_array().expect("a list").iter();
        let names: BTreeSet<_> =
            items.map(|item| item["metadata"]["name"].as_str().expect("a name").to_owned()).collect();
        assert_eq!(left, names);
        println!("{} changes in {rounds} rounds", promised.len());
    });
}
