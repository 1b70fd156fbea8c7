//! How long it takes to find a node, by the size of the fleet: from a model's name to a place on one of its nodes.

use std::{
    collections::{BTreeMap, VecDeque},
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use drover::{
    gateway::{
        balance::{Balance, Wish},
        callers::{Caller, KnownKeys},
        resolve::{Found, resolve},
        serving::Serving,
    },
    routing_table::{Holder, Namespace, Node, RoutingTable, Target},
};
use futures::FutureExt;

use crate::table::{Table, median, spread};

/// Requests under way at any moment.
const UNDER_WAY: usize = 64;
const ROUNDS: usize = 7;
const CHOICES: usize = 100_000;

pub fn run(table: &mut Table) {
    let (small, big) = (Fleet::new(2, 1), Fleet::new(1000, 200));
    for (how, with_session) in [("no session", false), ("a session each", true)] {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..=ROUNDS {
            for (fleet, times) in [&small, &big].into_iter().zip(&mut times) {
                times.push(fleet.choose(with_session));
            }
        }
        // The first round fills what is worked out once for a table.
        let [small, big] = times.map(|times| times[1..].to_vec());
        let ratios: Vec<f64> = big.iter().zip(&small).map(|(big, small)| big / small).collect();
        table.goal(
            format!("choosing among 1,000 nodes × 200 models, {how}: ≤ 2 × among 2"),
            format!("{} ×: {:.0} ns, {:.0} ns", spread(&ratios), median(&big), median(&small)),
            median(&ratios) <= 2.0,
        );
    }
}

struct Fleet {
    serving: Serving,
    balance: Arc<Balance>,
    models: usize,
}

impl Fleet {
    fn new(nodes: usize, models: usize) -> Self {
        let node = |index: usize| {
            Arc::new(Node {
                id: format!("default/node-{index}"),
                name: format!("node-{index}"),
                url: format!("http://10.0.{}.{}:11434", index / 256, index % 256),
                weight: 100,
                max_concurrent_requests: UNDER_WAY as u32,
                keep_alive: None,
                context_length: None,
                max_context_length: None,
            })
        };
        let nodes: Vec<Arc<Node>> = (0..nodes).map(node).collect();
        let holders: Vec<Holder> =
            nodes.iter().map(|node| Holder { node: node.clone(), loaded: true, digest: "sha256:00".into() }).collect();
        let model = |index: usize| {
            let tag = format!("model-{index}:1b");
            let target = Target { tag: tag.clone(), model: tag.clone(), holders: holders.clone(), ..Target::default() };
            (format!("registry.ollama.ai/library/{tag}"), target)
        };
        let namespace = Namespace {
            tags: (0..models).map(model).collect(),
            nodes: nodes.iter().map(|node| (node.name.clone(), node.clone())).collect(),
            ..Namespace::default()
        };
        let table =
            RoutingTable { namespaces: BTreeMap::from([("default".into(), namespace)]), ..RoutingTable::default() };
        let (serving, balance) = (Serving::new(Arc::new(table), KnownKeys::default()), Arc::new(Balance::new(1000)));
        balance.keep(serving.table());
        Self { serving, balance, models }
    }

    /// The nanoseconds of one choice, while as many requests as ever are under way.
    fn choose(&self, with_session: bool) -> f64 {
        let names: Vec<String> = (0..self.models).map(|index| format!("model-{index}:1b")).collect();
        let mut under_way = VecDeque::with_capacity(UNDER_WAY + 1);
        let start = Instant::now();
        for turn in 0..CHOICES {
            let name = &names[turn * 7919 % names.len()];
            let Ok(Found::Tag(target)) = resolve(self.serving.table().namespace("default"), name, &Caller::default())
            else {
                panic!("{name} is in the table")
            };
            let pool = self.serving.pool(target, &self.balance);
            let session = turn.to_le_bytes();
            let wish = Wish { session: with_session.then_some(&session[..]), ..Wish::default() };
            let place = self.balance.place(&pool, wish, |_| true, Duration::ZERO).now_or_never();
            under_way.push_back(black_box(place).expect("it needn't wait").expect("there is room"));
            if under_way.len() > UNDER_WAY {
                under_way.pop_front();
            }
        }
        start.elapsed().as_nanos() as f64 / CHOICES as f64
    }
}
