//! When records can't be stored.

use std::{fs, time::Duration};

use drover::records::{self, Place, Sync, WhenDown};
use serde_json::json;

use super::{FOREVER, Store, record, world};
use crate::{
    parts::{Scratch, disk::Disk, eventually, postgres::Postgres},
    support::{FakeNode, World, plain, table},
};

const NOW: i64 = 1_795_000_000;

/// A gateway with one node, and what it answers.
async fn one_node(store: &Store, when_down: WhenDown) -> (FakeNode, World) {
    let node = FakeNode::start("n1").await;
    let world = world(table(None, &[plain("alpha:1", &[&node])]), store, when_down, false).await;
    (node, world)
}

async fn ask(world: &World) -> (u16, String) {
    let asked = json!({ "model": "alpha:1", "prompt": "hi", "stream": false });
    let answer = world.post("/api/generate", &asked).await;
    (answer.status, answer.text)
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_requests_are_refused_or_answered_without_a_record() {
    let dir = Scratch::new();
    let disk = Disk::mount(&dir.join("disk"), 4);
    let store = Store::in_folder(&dir.join("disk"));
    let (refusing, refuser) = one_node(&store, WhenDown::Refuse).await;
    let (_serving, server) = one_node(&store, WhenDown::Serve).await;
    assert_eq!(ask(&refuser).await.0, 200);

    drop(fs::write(dir.join("disk/filler"), vec![0; 8 << 20]));
    let mut last = (200, String::new());
    let mut answered = 1;
    for _ in 0..50 {
        last = ask(&refuser).await;
        answered += usize::from(last.0 == 200);
    }
    assert!(last.0 == 503 && last.1.contains("space"), "{last:?}");
    let asked = refusing.count();
    assert_eq!(ask(&refuser).await.0, 503);
    assert_eq!(refusing.count(), asked, "no node works for an answer that nobody gets");
    assert_eq!(ask(&server).await.0, 200);

    fs::remove_file(dir.join("disk/filler")).unwrap();
    eventually("it answers again", Duration::from_secs(20), async || match ask(&refuser).await {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let recorded = store.all().await.iter().filter(|record| record.status == 200).count();
    assert!(recorded > answered, "{answered} answers had been given and {recorded} are on record");
    drop((refuser, server, store));
    drop(disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgresql_requests_are_refused_or_answered_without_a_record() {
    let dir = Scratch::new();
    let mut postgres = Postgres::start(dir.path()).await;
    let url = postgres.database("runs").await;
    let place = Place::Postgres(url.parse().expect("a URL"));
    let store = Store::open(records::Settings { place, sync: Sync::Full, retention: FOREVER });
    store.ready().await;
    let (refusing, refuser) = one_node(&store, WhenDown::Refuse).await;
    let (_serving, server) = one_node(&store, WhenDown::Serve).await;
    assert_eq!(ask(&refuser).await.0, 200);

    postgres.kill9();
    let (status, text) = eventually("it is known", Duration::from_secs(20), async || match ask(&refuser).await {
        (200, text) => Err(text),
        refusal => Ok(refusal),
    })
    .await;
    assert!(status == 503 && !text.contains("a-pass-word"), "{text}");
    let asked = refusing.count();
    assert_eq!(ask(&refuser).await.0, 503);
    assert_eq!(refusing.count(), asked, "no node works for an answer that nobody gets");
    assert_eq!(ask(&server).await.0, 200);
    assert!(store.records.commit(record(NOW)).await.is_err());

    postgres.restart().await;
    store.ready().await;
    assert_eq!(ask(&refuser).await.0, 200);
    assert_eq!(store.all().await.iter().filter(|record| record.status == 200).count(), 2);

    for _ in 0..3 {
        postgres.disconnect_all().await;
        assert_eq!(ask(&refuser).await.0, 200, "a connection that broke is none of the caller's business");
    }
}
