//! The same for records in a folder and for records in PostgreSQL.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use drover::{
    domain::{
        run_id::RunId,
        run_record::{Capture, Feedback, Outcome, RunFilter},
    },
    ports::Noted,
    records::{self, Place, Retention, Sync},
};

use super::{FOREVER, Store, answered, in_folder, record};
use crate::parts::{Scratch, eventually, postgres::Postgres};

const NOW: i64 = 1_795_000_000;
const DAY: i64 = 86_400;

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_keeps_records() {
    let dir = Scratch::new();
    let at = |name: &str, retention, sync| records::Settings { sync, ..in_folder(&dir.join(name), retention) };
    tokio::join!(
        finds_what_was_committed(at("find", FOREVER, Sync::Full)),
        filters(at("filter", FOREVER, Sync::Normal)),
        pages_while_records_come(at("page", FOREVER, Sync::Normal)),
        forgets_what_is_old(|retention| at("old", retention, Sync::Normal)),
        forgets_what_is_too_much(|retention| at("much", retention, Sync::Normal)),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_keeps_records() {
    let dir = Scratch::new();
    let server = Postgres::start(dir.path()).await;
    let mut places = Vec::new();
    for name in ["find", "filter", "page", "old", "much"] {
        places.push(Place::Postgres(server.database(name).await.parse().expect("a URL")));
    }
    let [find, filter, page, old, much] = <[Place; 5]>::try_from(places).expect("five");
    let at = |place: &Place, retention, sync| records::Settings { place: place.clone(), sync, retention };
    tokio::join!(
        finds_what_was_committed(at(&find, FOREVER, Sync::Full)),
        filters(at(&filter, FOREVER, Sync::Normal)),
        pages_while_records_come(at(&page, FOREVER, Sync::Normal)),
        forgets_what_is_old(|retention| at(&old, retention, Sync::Normal)),
        forgets_what_is_too_much(|retention| at(&much, retention, Sync::Normal)),
    );
}

async fn finds_what_was_committed(settings: records::Settings) {
    let store = Store::open(settings.clone());
    store.ready().await;
    let mut kept = record(NOW);
    kept.capture = Some(Capture { request: Some("a \u{0}, a \" and a 🐑\n".into()), answer: None });
    let commits = (0..200).map(|second| store.records.commit(record(NOW + second)));
    let (outcomes, committed) = tokio::join!(futures::future::join_all(commits), store.records.commit(kept.clone()));
    assert!(committed.is_ok() && outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(store.records.get(kept.id).await, Ok(Some(kept.clone())));
    assert_eq!(store.records.get(RunId(7)).await, Ok(None));

    store.records.commit(kept.clone()).await.expect("a second time is as good");
    let all = store.all().await;
    assert!(all.len() == 201 && all.iter().all(|record| record.capture.is_none()), "lists leave out what was said");
    let filter = RunFilter { with_capture: true, ..RunFilter::default() };
    let with_capture = store.records.list(filter, 1_000).await.expect("a list").items;
    assert_eq!(with_capture.into_iter().filter(|record| record.capture.is_some()).collect::<Vec<_>>(), [kept.clone()]);

    for (score, comment, noted) in [(0.0, Some("made up"), Noted::First), (1.0, None, Noted::Again)] {
        let feedback = Feedback { score, comment: comment.map(str::to_owned) };
        assert_eq!(store.records.note_feedback(kept.id, feedback.clone()).await, Ok(noted));
        kept.feedback = Some(feedback);
        assert_eq!(store.records.get(kept.id).await, Ok(Some(kept.clone())));
    }
    let nobodys = store.records.note_feedback(RunId(7), Feedback { score: 1.0, comment: None }).await;
    assert_eq!(nobodys, Ok(Noted::Unknown));

    store.close().await;
    let again = Store::open(settings);
    again.ready().await;
    assert_eq!(again.records.get(kept.id).await, Ok(Some(kept)));
}

async fn filters(settings: records::Settings) {
    let store = Store::open(settings);
    store.ready().await;
    let mut other = answered(NOW + 2, "beta", "n2");
    (other.outcome, other.caller) = (Outcome::Broken, Some("ann".into()));
    for record in [answered(NOW, "alpha", "n1"), answered(NOW + 1, "alpha", "n2"), other.clone(), record(NOW + 3)] {
        store.records.commit(record).await.expect("committed");
    }
    let text = |text: &str| Some(text.to_owned());
    let any = RunFilter::default;
    let cases = [
        (RunFilter { model: text("alpha"), ..any() }, vec![1, 0]),
        (RunFilter { node: text("n2"), ..any() }, vec![2, 1]),
        (RunFilter { model: text("alpha"), node: text("n2"), ..any() }, vec![1]),
        (RunFilter { version: text("v1.0.0"), ..any() }, vec![2, 1, 0]),
        (RunFilter { version: text("v9"), ..any() }, vec![]),
        (RunFilter { digest: text("sha256:beta"), ..any() }, vec![2]),
        (RunFilter { caller: text("ann"), ..any() }, vec![2]),
        (RunFilter { outcome: Some(Outcome::Broken), ..any() }, vec![2]),
        (RunFilter { model: text("alpha' OR '1' = '1"), ..any() }, vec![]),
        (RunFilter { since: Some(other.started_at), ..any() }, vec![3, 2]),
        (RunFilter { until: Some(other.started_at), ..any() }, vec![1, 0]),
        (RunFilter { after: Some(other.id), ..any() }, vec![1, 0]),
        (any(), vec![3, 2, 1, 0]),
    ];
    for (filter, wanted) in cases {
        let page = store.records.list(filter.clone(), 10).await.expect("a page");
        let seconds: Vec<i64> = page.items.iter().map(|record| record.started_at.as_second() - NOW).collect();
        assert_eq!((seconds, page.next), (wanted, None), "{filter:?}");
    }
}

async fn pages_while_records_come(settings: records::Settings) {
    let store = Store::open(settings);
    store.ready().await;
    let mut there = BTreeSet::new();
    for second in 0..50 {
        // Several of one moment as well.
        let record = record(NOW + second / 3);
        there.insert(record.id);
        store.records.commit(record).await.expect("committed");
    }
    let (mut seen, mut filter) = (Vec::new(), RunFilter::default());
    loop {
        let page = store.records.list(filter.clone(), 7).await.expect("a page");
        assert!(page.items.len() == 7 || page.next.is_none(), "{page:?}");
        seen.extend(page.items.iter().map(|record| record.id));
        let Some(next) = page.next else { break };
        filter.after = Some(next);
        store.records.commit(record(NOW + 1_000 + seen.len() as i64)).await.expect("committed");
    }
    assert!(seen.is_sorted_by(|a, b| a > b), "newest first, each once: {seen:?}");
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), there, "no more and no less than there was at first");
}

async fn forgets_what_is_old(settings: impl Fn(Retention) -> records::Settings) {
    let now = jiff::Timestamp::now().as_second();
    let store = Store::open(settings(FOREVER));
    store.ready().await;
    let commits = (0..1_200).map(|minute| store.records.commit(record(now - 31 * DAY - minute * 60)));
    assert!(futures::future::join_all(commits).await.iter().all(Result::is_ok));
    let young = record(now - 29 * DAY);
    store.records.commit(young.clone()).await.expect("committed");
    assert_eq!(store.all().await.len(), 1_201);
    store.close().await;

    let store = Store::open(settings(Retention { age: Duration::from_secs(30 * DAY.unsigned_abs()), ..FOREVER }));
    eventually("the old ones are gone", Duration::from_secs(20), async || match store.all().await {
        left if left.len() == 1 => Ok(left),
        left => Err(left.len()),
    })
    .await;
    assert_eq!(store.all().await, [young]);
}

async fn forgets_what_is_too_much(settings: impl Fn(Retention) -> records::Settings) {
    const SIZE: u64 = 1 << 20;
    let store = Store::open(settings(FOREVER));
    store.ready().await;
    let long = |second| {
        let capture = Some(Capture { request: Some("x".repeat(2_000)), answer: None });
        drover::ports::RunRecord { capture, ..record(NOW + second) }
    };
    let commits = (0..2_000).map(|second| store.records.commit(long(second)));
    assert!(futures::future::join_all(commits).await.iter().all(Result::is_ok));
    assert_eq!(store.all().await.len(), 2_000);
    store.close().await;

    let store = Store::open(settings(Retention { size: SIZE, ..FOREVER }));
    let most = SIZE as usize / 2_000;
    let left = eventually("few are left", Duration::from_secs(20), async || match store.all().await {
        left if left.len() <= most => Ok(left),
        left => Err(left.len()),
    })
    .await;
    assert!(!left.is_empty() && left[0].started_at.as_second() == NOW + 1_999, "the newest stay");
}

#[tokio::test]
async fn what_was_committed_outlives_the_one_who_would_have_moved_it() {
    let dir = Scratch::new();
    let store = Store::in_folder(dir.path());
    let records: Vec<_> = (0..10).map(|second| record(NOW + second)).collect();
    for record in &records {
        store.records.commit(record.clone()).await.expect("committed");
    }
    store.kill().await;
    let store = Store::in_folder(dir.path());
    assert_eq!(store.all().await.len(), 10);
    store.close().await;
    let journals = fs::read_dir(dir.path()).unwrap().filter_map(|entry| Some(entry.ok()?.file_name()));
    let journals: Vec<_> = journals.filter(|name| name.to_string_lossy().contains("journal-")).collect();
    assert!(journals.len() <= 1, "what was moved is not kept twice: {journals:?}");
}

#[tokio::test]
async fn a_line_that_was_cut_short_costs_no_other_record() {
    let dir = Scratch::new();
    let whole = serde_json::to_string(&record(NOW)).unwrap();
    let text =
        format!("\n{whole}\n{}\n{}\n\n", &whole[..whole.len() / 2], serde_json::to_string(&record(NOW + 1)).unwrap());
    fs::write(dir.join("runs.journal-3"), [text.as_bytes(), b"\xff\x00\n{}"].concat()).unwrap();
    let store = Store::in_folder(dir.path());
    assert_eq!(store.all().await.len(), 2);
}

#[tokio::test]
async fn a_folder_belongs_to_one_process_and_holds_nothing_for_others_to_read() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Scratch::new();
    let store = Store::in_folder(dir.path());
    store.records.commit(record(NOW)).await.expect("committed");
    assert_eq!(store.all().await.len(), 1);
    let refused = records::open(in_folder(dir.path(), FOREVER)).err().expect("it is taken");
    assert!(refused.contains("another process keeps its run records there"), "{refused}");
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.file_name());
    }
    store.close().await;
    assert!(records::open(in_folder(dir.path(), FOREVER)).is_ok());
    assert!(records::open(in_folder(Path::new("/dev/null"), FOREVER)).is_err());
}

#[tokio::test]
async fn tables_of_a_newer_version_are_left_alone() {
    use sqlx::Connection;
    let dir = Scratch::new();
    let store = Store::in_folder(dir.path());
    store.records.commit(record(NOW)).await.expect("committed");
    assert_eq!(store.all().await.len(), 1);
    store.close().await;
    let url = format!("sqlite://{}", dir.join("runs.db").display());
    let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let newer = "INSERT INTO drover_migrations (version, description, success, checksum, execution_time)
        VALUES (99, 'later', true, x'00', 1)";
    sqlx::query(newer).execute(&mut database).await.unwrap();
    database.close().await.unwrap();

    let store = Store::in_folder(dir.path());
    let error = store.records.get(RunId(7)).await.unwrap_err().to_string();
    assert!(error.contains("99"), "{error}");
    store.records.commit(record(NOW + 1)).await.expect("it waits in the journal");
}
