//! A disk without room, and a second program at the file: what is refused, what goes on, and that nothing is lost.

use std::{fs, time::Duration};

use futures::StreamExt;
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};

use crate::{
    sides::{Answer, Embedded, Side, scenario},
    support::{Scratch, disk::Disk, eventually},
};

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn create(side: &Side, name: &str, bytes: usize) -> Answer {
    let object = json!({ "metadata": { "name": name }, "data": { "a": "x".repeat(bytes) } });
    side.ask("POST", CONFIGMAPS, &object).await
}

fn assert_refused(answer: &Answer, words: &str) {
    let (reason, message) = (answer.body["reason"].as_str(), answer.body["message"].as_str().unwrap_or_default());
    assert_eq!((answer.code, reason), (507, Some("InsufficientStorage")), "{}", answer.body);
    assert!(message.starts_with("the change was not stored: ") && message.contains(words), "{message}");
}

#[test]
fn a_full_disk_refuses_writes_and_nothing_else() {
    scenario(|| async {
        let scratch = Scratch::new();
        let disk = Disk::mount(&scratch.join("disk"), 8);
        let folder = scratch.join("disk/state");
        let embedded = Embedded::start(&folder).await;
        let side = Side::embedded(&embedded).await;
        let mut events = side.lines(&format!("{CONFIGMAPS}?watch=true")).await.boxed();
        let mut stored = Vec::new();
        let refused = loop {
            let name = format!("c-{}", stored.len());
            let answer = create(&side, &name, 200_000).await;
            if answer.code != 201 {
                break answer;
            }
            stored.push(name);
            assert!(stored.len() < 100, "8 MiB took {} objects of 200 kB", stored.len());
        };
        assert_refused(&refused, "the disk is full: free some space on it");
        fs::write(scratch.join("disk/filler"), vec![0; 8 << 20]).expect_err("not a byte is left");
        assert_refused(&create(&side, "small", 1).await, "the disk is full");

        let list = side.ask("GET", CONFIGMAPS, &Value::Null).await.body;
        assert_eq!(list["items"].as_array().map(Vec::len), Some(stored.len()));
        for name in &stored {
            assert_eq!(events.next().await.expect("an event")["object"]["metadata"]["name"], json!(name));
        }

        fs::remove_file(scratch.join("disk/filler")).expect("the filler goes");
        disk.resize(64);
        let made = create(&side, "after", 200_000).await;
        assert_eq!(made.code, 201, "{}", made.body);
        stored.push("after".into());
        assert_eq!(events.next().await.expect("an event")["object"], made.body);
        drop(embedded);

        let embedded = Embedded::start(&folder).await;
        let list = Side::embedded(&embedded).await.ask("GET", CONFIGMAPS, &Value::Null).await.body;
        let items = list["items"].as_array().expect("a list").iter();
        let mut names: Vec<_> = items.map(|item| item["metadata"]["name"].as_str().expect("a name")).collect();
        names.sort_unstable();
        stored.sort_unstable();
        assert_eq!(names, stored);
    });
}

#[test]
fn another_program_at_the_file_is_named_and_forgotten() {
    scenario(|| async {
        let scratch = Scratch::new();
        let embedded = Embedded::start(&scratch.join("state")).await;
        let side = Side::embedded(&embedded).await;
        let file = SqliteConnectOptions::new().filename(scratch.join("state/state.db"));
        let mut other = file.connect().await.expect("it can be opened");
        let transaction = other.begin_with("BEGIN IMMEDIATE").await.expect("it is free");
        assert_refused(&create(&side, "a", 1).await, "another program is writing");
        transaction.rollback().await.expect("it ends");
        other.close().await.expect("it ends");
        eventually("it is forgotten", Duration::from_secs(10), async || {
            let answer = create(&side, "a", 1).await;
            if answer.code == 201 { Ok(()) } else { Err(answer.body.to_string()) }
        })
        .await;
    });
}
