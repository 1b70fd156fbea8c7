//! A gateway at saturation for as long as `DROVER_SOAK_SECONDS` says, over nodes that are killed, frozen and revived.

mod callers;
mod nodes;

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use drover::{
    domain::{
        run_id::RunId,
        run_record::{Outcome, RunFilter},
    },
    routing_table::save,
};
use futures::future::join_all;

use self::{
    callers::{Outcomes, call},
    nodes::{Failing, target},
};
use crate::{
    parts::{Scratch, drover::Drover, free_port},
    records::{NOWHERE, Store},
    support::table,
};

/// More than all nodes take at once: some always wait.
const CALLERS: usize = 40;
/// What memory may grow by after a third of the time, in KiB: what a store keeps in mind and what an allocator keeps apart.
const GROWTH_KIB: u64 = 16 << 10;
/// Records asked for at once.
const PAGE: usize = 10_000;

fn duration() -> Duration {
    let seconds =
        std::env::var("DROVER_SOAK_SECONDS").map_or(30, |text| text.parse().expect("DROVER_SOAK_SECONDS: a number"));
    Duration::from_secs(seconds)
}

/// A gateway that knows these nodes, and nothing of any API.
async fn gateway(nodes: &[Failing], dir: &Path) -> (Drover, String) {
    let data = dir.join("g1");
    fs::create_dir_all(&data).expect("a folder");
    save(&data.join("routing-table.json"), &table(None, &[target(nodes)])).expect("the table can be kept");
    let kubeconfig = dir.join("kubeconfig");
    fs::write(&kubeconfig, NOWHERE).expect("a file");
    let port = free_port();
    let gateway = Drover::gateway("g1", &kubeconfig, "default", port, dir).await;
    (gateway, format!("http://127.0.0.1:{port}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_leaks_while_nodes_come_and_go() {
    let dir = Scratch::new();
    let path = dir.path();
    let (r1, r2, s1, s2, s3) = tokio::join!(
        Failing::real("real-1", path),
        Failing::real("real-2", path),
        Failing::speaks("speaks-1", path),
        Failing::speaks("speaks-2", path),
        Failing::speaks("speaks-3", path),
    );
    let nodes = [r1, s1, r2, s2, s3];
    let (mut gateway, url) = gateway(&nodes, path).await;
    let pid = gateway.process().pid();
    // The last one always lives.
    let [r1, s1, r2, s2, _alive] = nodes;

    let (outcomes, start, duration) = (Arc::new(Outcomes::default()), Instant::now(), duration());
    let calls = join_all((0..CALLERS).map(|caller| call(&url, caller, &outcomes)));
    let time = async {
        tokio::time::sleep(duration / 3).await;
        let warm = Footprint::of(pid);
        tokio::time::sleep(duration * 2 / 3).await;
        let hot = Footprint::of(pid);
        outcomes.end();
        (warm, hot)
    };
    let ends = start + duration;
    let (_, (warm, hot), first, second) =
        tokio::join!(calls, time, trouble([r1, s1], ends, path), trouble([r2, s2], ends, path));
    let idle = Footprint::of(pid);
    let (whole, troubles) = (outcomes.whole(), first + second);
    println!(
        "soak: {duration:?}, {} answers whole, {} streams broke off, {troubles} times a node failed; warm {warm:?}, at the end \
         {hot:?}, idle {idle:?}",
        whole.len(),
        outcomes.broken()
    );
    assert_eq!(outcomes.wrong(), Vec::<String>::new(), "there was always a live node");
    assert!(whole.len() > CALLERS && troubles > 2, "too little happened");
    assert!(hot.memory_kib <= warm.memory_kib + GROWTH_KIB, "memory grows: {warm:?}, later {hot:?}");
    assert!(idle.files <= warm.files, "connections stay: {warm:?}, idle {idle:?}");
    let metrics = gateway.metrics().await;
    let under_way: Vec<_> =
        metrics.lines().filter(|line| line.contains("in_flight") && !line.starts_with('#')).collect();
    assert!(under_way.iter().all(|line| line.ends_with(" 0")), "nobody waits any more: {under_way:?}");

    assert!(gateway.process().stop_gracefully(Duration::from_secs(40)).await.success());
    let store = Store::in_folder(&path.join("g1"));
    let mut left = whole;
    answered(&store, |id| {
        left.remove(&id);
    })
    .await;
    assert!(
        left.is_empty(),
        "{} whole answers have no record: {:?}",
        left.len(),
        left.iter().take(5).collect::<Vec<_>>()
    );
}

/// Has one of these nodes after the other fail in some way and come back, until it is time; how often.
async fn trouble(mut nodes: [Failing; 2], ends: Instant, dir: &Path) -> usize {
    let moment = |most: u64| tokio::time::sleep(Duration::from_millis(rand::random_range(0..most)));
    let mut count = 0;
    while Instant::now() < ends {
        let node = &mut nodes[rand::random_range(0..2)];
        match rand::random_range(0..3) {
            0 => {
                node.kill9();
                moment(1_000).await;
                node.revive(dir).await;
            }
            1 => {
                node.freeze();
                moment(2_000).await;
                node.thaw();
            }
            _ => {
                node.freeze();
                moment(1_000).await;
                node.kill9();
                node.revive(dir).await;
            }
        }
        count += 1;
        moment(2_000).await;
    }
    count
}

/// Hands over the id of every run on record that was answered.
async fn answered(store: &Store, mut take: impl FnMut(RunId)) {
    let mut filter = RunFilter { outcome: Some(Outcome::Answered), ..RunFilter::default() };
    loop {
        let page = store.records.list(filter.clone(), PAGE).await.expect("a list");
        page.items.iter().for_each(|record| take(record.id));
        filter.after = page.next;
        if filter.after.is_none() {
            return;
        }
    }
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Footprint {
    memory_kib: u64,
    files: usize,
}

impl Footprint {
    fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        let memory_kib = resident.trim().trim_end_matches(" kB").parse().expect("a number");
        let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").count();
        Self { memory_kib, files }
    }
}
