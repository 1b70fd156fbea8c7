//! Which waiting pull starts next.

use std::collections::{BTreeMap, BTreeSet};

use drover::domain::pull::{Hold, Queue, Want};
use proptest::{collection::vec, prelude::*};

/// An attempt: its node and its model.
type Key = (u8, u8);

/// What happens to a queue.
#[derive(Clone, Debug)]
enum Step {
    Wait { key: Key, object: u8, want: Want },
    Leave { key: Key, object: u8 },
    Start,
    End(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || (0..4u8, 0..3u8);
    let want = (-2..3i32, prop::option::of(1..3u32)).prop_map(|(priority, parallelism)| Want { priority, parallelism });
    prop_oneof![
        4 => (key(), 0..4u8, want).prop_map(|(key, object, want)| Step::Wait { key, object, want }),
        1 => (key(), 0..4u8).prop_map(|(key, object)| Step::Leave { key, object }),
        3 => Just(Step::Start),
        2 => any::<usize>().prop_map(Step::End),
    ]
}

fn node(key: Key) -> String {
    format!("http://node-{}", key.0)
}

/// What must be true of a queue, kept the long way round.
#[derive(Default)]
struct Model {
    waiting: BTreeMap<Key, Vec<(u8, Want)>>,
    age: BTreeMap<Key, usize>,
    running: BTreeMap<Key, BTreeSet<u8>>,
}

impl Model {
    fn runs_on(&self, key: Key) -> bool {
        self.running.keys().any(|running| running.0 == key.0)
    }

    fn has_room(&self, object: u8, want: Want) -> bool {
        let running = self.running.values().filter(|objects| objects.contains(&object)).count();
        want.parallelism.is_none_or(|limit| running < limit as usize)
    }

    fn may_start(&self, key: Key, limit: usize) -> bool {
        let wants = &self.waiting[&key];
        self.running.len() < limit
            && !self.runs_on(key)
            && wants.iter().any(|(object, want)| self.has_room(*object, *want))
    }

    fn priority(&self, key: Key) -> i32 {
        self.waiting[&key].iter().map(|(_, want)| want.priority).max().expect("somebody wants it")
    }
}

proptest! {
    #[test]
    fn no_limit_is_passed_no_slot_stays_empty_and_the_first_goes_first(limit in 1..5usize, steps in vec(step(), 1..80)) {
        let (mut queue, mut model) = (Queue::new(limit), Model::default());
        for (now, step) in steps.into_iter().enumerate() {
            match step {
                Step::Wait { key, object, want } => {
                    queue.wait(key, &node(key), object, want);
                    let wants = model.waiting.entry(key).or_default();
                    wants.retain(|(other, _)| *other != object);
                    wants.push((object, want));
                    model.age.entry(key).or_insert(now);
                }
                Step::Leave { key, object } => {
                    queue.leave(&key, &object);
                    if let Some(wants) = model.waiting.get_mut(&key) {
                        wants.retain(|(other, _)| *other != object);
                        if wants.is_empty() {
                            model.waiting.remove(&key);
                            model.age.remove(&key);
                        }
                    }
                }
                Step::Start => {
                    let able: Vec<Key> = model.waiting.keys().copied().filter(|key| model.may_start(*key, limit)).collect();
                    let first = able.iter().copied().min_by_key(|key| (-model.priority(*key), model.age[key]));
                    let started = queue.start_next();
                    prop_assert_eq!(started, first, "of {:?}", able);
                    if let Some(key) = started {
                        let wants = model.waiting.remove(&key).expect("it waited");
                        model.age.remove(&key);
                        model.running.insert(key, wants.into_iter().map(|(object, _)| object).collect());
                    }
                }
                Step::End(which) => {
                    let ended = model.running.keys().copied().nth(which % model.running.len().max(1));
                    if let Some(key) = ended {
                        queue.end(&key);
                        model.running.remove(&key);
                    }
                }
            }
            prop_assert_eq!((queue.waiting(), queue.running()), (model.waiting.len(), model.running.len()));
            prop_assert!(model.running.len() <= limit);
            let nodes: BTreeSet<u8> = model.running.keys().map(|key| key.0).collect();
            prop_assert_eq!(nodes.len(), model.running.len(), "two on one node");
            for key in model.waiting.keys() {
                let hold = queue.hold(key);
                prop_assert_eq!(hold == Hold::Turn, model.may_start(*key, limit), "{:?}", hold);
                prop_assert!(!hold.message().is_empty());
            }
            for key in model.running.keys() {
                let others = model.waiting.keys().any(|other| other.0 == key.0)
                    || (model.running.len() >= limit && !model.waiting.is_empty());
                prop_assert_eq!(queue.others_want(&node(*key)), others);
            }
        }
    }

    /// However many come after it with the same priority, one that waits gets its turn.
    #[test]
    fn nobody_starves_at_equal_priority(ahead in 0..6u8, arrivals in vec(0..4u8, 0..40)) {
        let want = Want { priority: 0, parallelism: None };
        let mut queue = Queue::new(1);
        for model in 0..ahead {
            queue.wait((0, model), "a", 0, want);
        }
        queue.wait((0, 100), "a", 1, want);
        let mut starts = 0;
        for (number, node) in arrivals.iter().enumerate() {
            queue.wait((*node, 101 + number as u8), "a", 0, want);
            let started = queue.start_next().expect("the slot is free and somebody waits");
            queue.end(&started);
            starts += 1;
            if started == (0, 100) {
                break;
            }
            prop_assert!(starts <= usize::from(ahead), "{starts} went before it");
        }
    }
}

#[test]
fn thousands_that_wait_cost_little() {
    let mut queue = Queue::new(128);
    let want = Want { priority: 0, parallelism: None };
    let nodes: Vec<String> = (0..1000).map(|node| format!("http://node-{node}:11434")).collect();
    for attempt in 0..5000_usize {
        queue.wait(attempt, &nodes[attempt % 1000], attempt, want);
    }
    let start = std::time::Instant::now();
    let (mut running, mut started) = (std::collections::VecDeque::new(), 0);
    while started < 5000 {
        while let Some(attempt) = queue.start_next() {
            running.push_back(attempt);
            started += 1;
        }
        queue.end(&running.pop_front().expect("one runs"));
    }
    // Takes 0.1 s without optimization on a slow core; a way that grows with the square takes minutes.
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
}
