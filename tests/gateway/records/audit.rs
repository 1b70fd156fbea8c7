//! The audit, the same in a folder and in PostgreSQL.

use drover::{
    domain::rollout::Entry,
    ports::{AuditFilter, AuditRecord},
    records::{self, Place, Settings, Sync, audit},
};
use jiff::{SignedDuration, Timestamp};

use super::FOREVER;
use crate::parts::{Scratch, postgres::Postgres};

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_keeps_each_entry_once_and_finds_it() {
    let dir = Scratch::new();
    keeps_each_entry_once_and_finds_it(&Place::Folder(dir.join("audit"))).await;
    let nowhere = Place::Folder("/proc/nowhere".into());
    assert!(audit::open(&nowhere).err().expect("no folder").contains("/proc/nowhere/audit.db"));
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_keeps_each_entry_once_beside_run_records() {
    let dir = Scratch::new();
    let server = Postgres::start(dir.path()).await;
    let place = Place::Postgres(server.database("shared").await.parse().expect("a URL"));
    let (runs, keeper) =
        records::open(Settings { place: place.clone(), sync: Sync::Normal, retention: FOREVER }).expect("a store");
    let keeper = tokio::spawn(keeper);
    keeps_each_entry_once_and_finds_it(&place).await;
    crate::parts::eventually("run records are kept there too", std::time::Duration::from_secs(30), async || {
        runs.ready()
    })
    .await;
    drop(runs);
    keeper.await.expect("no panic").expect("it ends");
}

fn record(namespace: &str, deployment: &str, number: u64, ago: SignedDuration) -> AuditRecord {
    let at = Timestamp::now().checked_sub(ago).expect("a time");
    AuditRecord {
        namespace: namespace.into(),
        deployment: deployment.into(),
        uid: format!("uid-of-{deployment}"),
        model: format!("model-of-{deployment}"),
        entry: Entry {
            number,
            at,
            action: "RolledBack".into(),
            version: "v1.1.0".into(),
            message: "it's \"why\"".into(),
            by: "drover-cli (unverified)".into(),
            rollout_id: "abc-1".into(),
        },
    }
}

async fn keeps_each_entry_once_and_finds_it(place: &Place) {
    let log = audit::open(place).expect("a log");
    let hours = SignedDuration::from_hours;
    let kept = [record("a", "bot", 1, hours(3)), record("b", "eve", 1, hours(2)), record("a", "bot", 2, hours(1))];
    let ancient = record("a", "bot", 0, hours(24 * 400));
    log.add([vec![ancient], kept.to_vec()].concat()).await.expect("stored");
    let again = audit::open(place).expect("the same log");
    again.add(kept.to_vec()).await.expect("told again");
    let list = async |filter: AuditFilter, limit| again.list(filter, limit).await.expect("a list");
    let [first, second, third] = kept;
    assert_eq!(list(AuditFilter::default(), 10).await, [third.clone(), second.clone(), first.clone()]);
    assert_eq!(list(AuditFilter::default(), 1).await, std::slice::from_ref(&third));
    let some = |text: &str| Some(text.to_owned());
    let filters = [
        (AuditFilter { namespace: some("b"), ..AuditFilter::default() }, vec![second.clone()]),
        (AuditFilter { model: some("model-of-eve"), ..AuditFilter::default() }, vec![second]),
        (AuditFilter { deployment: some("bot"), ..AuditFilter::default() }, vec![third.clone(), first]),
        (AuditFilter { since: Some(third.entry.at), ..AuditFilter::default() }, vec![third]),
        (AuditFilter { deployment: some("nobody"), ..AuditFilter::default() }, vec![]),
    ];
    for (filter, expected) in filters {
        assert!(expected.iter().all(|record| filter.fits(record)), "{filter:?}");
        assert_eq!(list(filter.clone(), 10).await, expected, "{filter:?}");
    }
}
