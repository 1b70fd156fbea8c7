//! The embedded API next to a real kube-apiserver with etcd: the same client does the same work on both, in turns.

mod fanout;
mod objects;
mod sides;
mod start;

use std::{fmt::Display, path::Path, time::Instant};

use axum::body::{Body, Bytes};
use drover::standalone::Durability;
use futures::TryStreamExt;
use http::{Request, header};
use kube::Client;

pub use sides::serve;

use crate::{
    machine,
    support::Scratch,
    table::{Table, median, spread, spread_whole},
};
use objects::{Patching, Work};
use sides::{Embedded, Real};

/// Rounds of each figure, the two sides taking turns.
const ROUNDS: usize = 3;
/// Objects of the lists, of the start and of the memory.
const MANY: usize = 10_000;
const LISTED: &str = "many";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const PATCHINGS: [(Patching, &str); 2] = [(Patching::Merge, "merge patches"), (Patching::Apply, "applies")];
/// What `kubectl get` asks for at once.
const PAGE: usize = 500;

pub async fn run(table: &mut Table) {
    let scratch = Scratch::new();
    table.note("load of the machine", machine::load());
    let dirs =
        ["kube", "state", "listed", "inside", "fresh", "kube-synced", "state-synced"].map(|name| scratch.join(name));
    let [kube, state, listed, inside, fresh, kube_synced, state_synced] = &dirs;
    {
        let (real, embedded) = both(kube, state, Durability::Normal).await;
        writes(table, &[embedded.client, real.client.clone()], &[1, 16], "").await;
        // In a process that has nothing else, for the sake of its memory.
        let embedded = Embedded::start(listed, Durability::Normal).await;
        let sides = [embedded.client.clone(), real.client.clone()];
        lists(table, &sides, &embedded).await;
        fanout::run(table, &sides).await;
    }
    start::run(table, listed, fresh).await;
    {
        let (real, embedded) = both(kube_synced, state_synced, Durability::Full).await;
        writes(table, &[embedded.client, real.client], &[1, 64], ", each on the disk").await;
    }
    inside_the_process(table, &sides::InProcess::start(inside).await.client).await;
}

async fn both(kube: &Path, state: &Path, durability: Durability) -> (Real, Embedded) {
    (Real::start(kube, durability).await, Embedded::start(state, durability).await)
}

/// Objects made and statuses patched in a second.
async fn writes(table: &mut Table, sides: &[Client; 2], at_once: &[usize], mode: &str) {
    let works = sides.each_ref().map(|client| Work::new(client.clone(), "writes"));
    for work in &works {
        work.prepare().await;
    }
    for &at_once in at_once {
        let rates = in_turns(&works, async |work| work.creates(at_once).await).await;
        more(table, &format!("creates/s, {at_once} at once{mode}: ≥ 5 ×"), &rates, 5.0);
    }
    for (how, name) in PATCHINGS {
        for &at_once in at_once {
            let rates = in_turns(&works, async |work| work.patches(how, at_once).await).await;
            more(table, &format!("{name} of status/s, {at_once} at once{mode}: ≥ 5 ×"), &rates, 5.0);
        }
    }
}

/// One figure of both sides, round by round.
async fn in_turns<S>(sides: &[S; 2], measure: impl AsyncFn(&S) -> f64) -> [Vec<f64>; 2] {
    let mut figures = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (side, figures) in sides.iter().zip(&mut figures) {
            figures.push(measure(side).await);
        }
    }
    figures
}

/// Everything that is there, as a program and as kubectl ask for it.
async fn lists(table: &mut Table, sides: &[Client; 2], embedded: &Embedded) {
    for client in sides {
        Work::new(client.clone(), LISTED).fill(MANY).await;
    }
    let after_writes = machine::memory(embedded.pid()).0;
    for (how, accept, page) in [("JSON", "application/json", 0), ("kubectl's table, in pages of 500", TABLE, PAGE)] {
        let rates = in_turns(sides, async |client| {
            let start = Instant::now();
            let pages = list(client, accept, page).await;
            let took = start.elapsed();
            let found: usize = pages.iter().map(|page| objects::count(&page.concat())).sum();
            assert_eq!(found, MANY, "objects in the list");
            1.0 / took.as_secs_f64()
        })
        .await;
        more(table, &format!("lists/s of 10,000 objects, {how}: ≥ 3 ×"), &rates, 3.0);
    }
    let (now, peak) = machine::memory(embedded.pid());
    let figure = format!("{after_writes:.0} MB once written, {now:.0} MB once listed, at most {peak:.0} MB");
    table.goal("memory with 10,000 objects: < 60 MB", figure, now < 60.0);
}

/// Reads a whole list; its pages as they came.
async fn list(client: &Client, accept: &str, size: usize) -> Vec<Vec<Bytes>> {
    let (mut after, mut pages) = (String::new(), Vec::new());
    loop {
        let mut path = objects::path(LISTED);
        if size > 0 {
            path += &format!("?limit={size}&continue={after}");
        }
        let request = Request::get(path).header(header::ACCEPT, accept).body(kube::client::Body::empty());
        let answer = client.send(request.expect("a request")).await.expect("an answer");
        let page: Vec<Bytes> =
            Body::new(answer.into_body()).into_data_stream().try_collect().await.expect("a whole answer");
        after = objects::next_page(page.first().expect("an answer"));
        pages.push(page);
        if after.is_empty() {
            return pages;
        }
    }
}

/// What a client in the same process gets: no port, no TLS, no second process.
async fn inside_the_process(table: &mut Table, client: &Client) {
    let work = Work::new(client.clone(), "writes");
    work.prepare().await;
    for at_once in [1, 16] {
        let rate = work.creates(at_once).await;
        table.note(format!("in process, no port: creates/s, {at_once} at once"), format!("{rate:.0}"));
    }
    for (how, name) in PATCHINGS {
        for at_once in [1, 16] {
            let rate = work.patches(how, at_once).await;
            table.note(format!("in process, no port: {name} of status/s, {at_once} at once"), format!("{rate:.0}"));
        }
    }
}

/// A goal for a figure that is better when it is more.
fn more(table: &mut Table, goal: &str, [ours, theirs]: &[Vec<f64>; 2], at_least: f64) {
    let ratio = median(ours) / median(theirs);
    let rates = |rates: &[f64]| if median(rates) < 100.0 { spread(rates) } else { spread_whole(rates) };
    let figure = format!("{ratio:.1} ×: {}, API server {}", rates(ours), rates(theirs));
    table.goal(goal, figure, ratio >= at_least);
}

/// Milliseconds as people read them.
fn milliseconds(seconds: &[f64]) -> impl Display {
    spread(&seconds.iter().map(|seconds| seconds * 1000.0).collect::<Vec<_>>())
}
