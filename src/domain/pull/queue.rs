//! Which waiting attempt starts next: at most one on a node, so many of an object, so many in all; the highest
//! priority first, then who has waited longest.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    hash::Hash,
};

/// What an attempt waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Another attempt on the same node.
    Node,
    /// `spec.parallelism` of its object.
    Object(u32),
    /// The limit over all nodes.
    All(usize),
    /// Nothing: it starts next.
    Turn,
}

impl Hold {
    /// For people.
    pub fn message(self) -> String {
        match self {
            Self::Node => "waits for another pull on this node".into(),
            Self::Object(limit) => format!("waits for another node: spec.parallelism is {limit}"),
            Self::All(limit) => format!("waits for its turn: max-pulls lets {limit} nodes pull at once"),
            Self::Turn => "starts next".into(),
        }
    }
}

/// How an object wants an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// The highest goes first.
    pub priority: i32,
    /// How many of the object's attempts may run at once; `None`: all of them.
    pub parallelism: Option<u32>,
}

/// The attempts that wait and run. `K` names an attempt, `O` an object that wants some.
#[derive(Debug)]
pub struct Queue<K, O> {
    limit: usize,
    waiting: HashMap<K, Waiting<O>>,
    order: BTreeMap<(Reverse<i32>, u64), K>,
    waiting_on: HashMap<String, usize>,
    running: HashMap<K, Running<O>>,
    busy: HashSet<String>,
    of_object: HashMap<O, u32>,
    next_number: u64,
}

#[derive(Debug)]
struct Waiting<O> {
    node: String,
    wants: Vec<(O, Want)>,
    place: (Reverse<i32>, u64),
}

#[derive(Debug)]
struct Running<O> {
    node: String,
    objects: Vec<O>,
}

impl<K: Clone + Eq + Hash, O: Clone + Eq + Hash> Queue<K, O> {
    /// An empty one that lets `limit` attempts run at once.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            waiting: HashMap::new(),
            order: BTreeMap::new(),
            waiting_on: HashMap::new(),
            running: HashMap::new(),
            busy: HashSet::new(),
            of_object: HashMap::new(),
            next_number: 0,
        }
    }

    /// An object wants an attempt on a node: it begins to wait, or the object joins those that want it already.
    pub fn wait(&mut self, key: K, node: &str, object: O, want: Want) {
        match self.waiting.get_mut(&key) {
            Some(waiting) => match waiting.wants.iter_mut().find(|(other, _)| *other == object) {
                Some(known) => known.1 = want,
                None => waiting.wants.push((object, want)),
            },
            None => {
                let place = (Reverse(want.priority), self.next_number);
                self.next_number += 1;
                let waiting = Waiting { node: node.to_owned(), wants: vec![(object, want)], place };
                *self.waiting_on.entry(node.to_owned()).or_default() += 1;
                self.order.insert(place, key.clone());
                self.waiting.insert(key.clone(), waiting);
            }
        }
        self.place(&key);
    }

    /// An object wants an attempt no more; without any object it stops waiting.
    pub fn leave(&mut self, key: &K, object: &O) {
        let Some(waiting) = self.waiting.get_mut(key) else { return };
        waiting.wants.retain(|(other, _)| other != object);
        if waiting.wants.is_empty() {
            self.forget(key);
        } else {
            self.place(key);
        }
    }

    /// The attempt that starts now, if one may; it counts as running from here on.
    pub fn start_next(&mut self) -> Option<K> {
        if self.running.len() >= self.limit {
            return None;
        }
        let key = self.order.values().find(|key| self.waiting.get(key).is_some_and(|w| self.may_start(w))).cloned()?;
        let Waiting { node, wants, .. } = self.forget(&key)?;
        let objects: Vec<O> = wants.into_iter().map(|(object, _)| object).collect();
        for object in &objects {
            *self.of_object.entry(object.clone()).or_default() += 1;
        }
        self.busy.insert(node.clone());
        self.running.insert(key.clone(), Running { node, objects });
        Some(key)
    }

    /// A running attempt ended.
    pub fn end(&mut self, key: &K) {
        let Some(Running { node, objects }) = self.running.remove(key) else { return };
        self.busy.remove(&node);
        for object in objects {
            if let Some(count) = self.of_object.get_mut(&object) {
                *count -= 1;
                if *count == 0 {
                    self.of_object.remove(&object);
                }
            }
        }
    }

    /// What a waiting attempt waits for.
    pub fn hold(&self, key: &K) -> Hold {
        let Some(waiting) = self.waiting.get(key) else { return Hold::Turn };
        if self.running.len() >= self.limit {
            return Hold::All(self.limit);
        }
        if self.busy.contains(&waiting.node) {
            return Hold::Node;
        }
        let tightest = waiting.wants.iter().filter_map(|(_, want)| want.parallelism).max();
        match tightest.filter(|_| !self.may_start(waiting)) {
            Some(limit) => Hold::Object(limit),
            None => Hold::Turn,
        }
    }

    /// Whether others could start if the attempt that runs on this node ended.
    pub fn others_want(&self, node: &str) -> bool {
        self.waits_for(node) || (self.running.len() >= self.limit && !self.waiting.is_empty())
    }

    /// Whether another attempt waits for this node.
    pub fn waits_for(&self, node: &str) -> bool {
        self.waiting_on.contains_key(node)
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    fn may_start(&self, waiting: &Waiting<O>) -> bool {
        let has_room = |(object, want): &(O, Want)| {
            want.parallelism.is_none_or(|limit| self.of_object.get(object).is_none_or(|running| *running < limit))
        };
        !self.busy.contains(&waiting.node) && waiting.wants.iter().any(has_room)
    }

    /// Puts an attempt where its highest priority belongs; it keeps its age.
    fn place(&mut self, key: &K) {
        let Some(waiting) = self.waiting.get_mut(key) else { return };
        let highest = waiting.wants.iter().map(|(_, want)| want.priority).max().unwrap_or_default();
        if waiting.place.0 != Reverse(highest) {
            self.order.remove(&waiting.place);
            waiting.place.0 = Reverse(highest);
            self.order.insert(waiting.place, key.clone());
        }
    }

    fn forget(&mut self, key: &K) -> Option<Waiting<O>> {
        let waiting = self.waiting.remove(key)?;
        self.order.remove(&waiting.place);
        if let Some(count) = self.waiting_on.get_mut(&waiting.node) {
            *count -= 1;
            if *count == 0 {
                self.waiting_on.remove(&waiting.node);
            }
        }
        Some(waiting)
    }
}
