//! What became of one version's attempts, as they are compared.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::domain::{
    analysis::{self, Observed, Sketch, micros},
    routing::may_be_tried,
};

/// A score below this says that an answer was bad.
const GOOD_SCORE: f64 = 0.5;

/// One version's attempts.
#[derive(Debug, Default)]
pub struct Counter {
    attempts: AtomicU64,
    failures: AtomicU64,
    repeats: AtomicU64,
    schema_checks: AtomicU64,
    schema_failures: AtomicU64,
    rated: AtomicU64,
    disliked: AtomicU64,
    latency: Sizes,
    first_token: Sizes,
    token_time: Sizes,
    price: Sizes,
    /// Attempts that failed since the last one that didn't.
    failed_in_a_row: AtomicU64,
    /// Whether anything was answered in the present rollout.
    is_proven: AtomicBool,
    /// Requests that wait for an answer of a version that has answered nothing yet.
    waiting: AtomicU64,
    /// The sessions of which an attempt was counted in this step.
    sessions: Sessions,
    /// Those of which a score was.
    raters: Sessions,
}

/// A request to a version that has answered nothing yet.
#[derive(Debug)]
pub struct Trial(Arc<Counter>);

impl Drop for Trial {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is counted of an attempt that the node answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answered {
    /// Whether it keeps to the schema that was asked for; nothing without one.
    pub keeps_schema: Option<bool>,
    /// From the request to the node to the end of its answer, without loading the model.
    pub latency: Duration,
    /// The same, to the first piece of a stream.
    pub first_token: Option<Duration>,
    /// The time for each token.
    pub token_time: Option<Duration>,
    /// What it cost in US dollars, where that is known.
    pub cost: Option<f64>,
    /// Tokens read and written.
    pub tokens: u64,
}

/// Where the attempts of one request at a version count.
#[derive(Clone, Debug)]
pub struct Account {
    /// The version's.
    pub counter: Arc<Counter>,
    /// What its session is known by, while sessions stay on their side of a rollout.
    pub session: Option<u64>,
    /// Where it counts what it cost, in millionths of a dollar.
    pub spent: Option<Arc<AtomicU64>>,
}

impl Account {
    /// An attempt that the node answered.
    pub fn answered(&self, answer: &Answered) {
        answer.cost.into_iter().for_each(|cost| self.spend(cost));
        self.counter.responded();
        if self.counter.is_unit(self.session) {
            self.counter.answered(answer);
        }
    }

    /// It cost so many US dollars.
    pub fn spend(&self, cost: f64) {
        if let Some(spent) = &self.spent {
            spent.fetch_add(micros(cost), Ordering::Relaxed);
        }
    }

    /// An attempt that failed through the node's fault.
    pub fn failed(&self) {
        self.counter.failed_in_a_row.fetch_add(1, Ordering::Relaxed);
        if self.counter.is_unit(self.session) {
            self.counter.failures.fetch_add(1, Ordering::Relaxed);
            self.counter.attempts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Counter {
    /// The node answered, if only that the caller is wrong.
    pub fn responded(&self) {
        self.failed_in_a_row.store(0, Ordering::Relaxed);
        self.is_proven.store(true, Ordering::Relaxed);
    }

    /// Whether the version may get one more request: any number once it has answered one in this rollout.
    pub fn may_be_tried(&self) -> bool {
        self.is_proven.load(Ordering::Relaxed)
            || may_be_tried(self.waiting.load(Ordering::Relaxed), self.failed_in_a_row())
    }

    /// The same for a request that is sent then: holds its place among those that wait, if it must. `None`: it may not.
    pub fn try_with(self: &Arc<Self>) -> Option<Option<Trial>> {
        if self.is_proven.load(Ordering::Relaxed) {
            return Some(None);
        }
        // Counted first: of many at once each sees the others.
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let trial = Trial(self.clone());
        may_be_tried(waiting, self.failed_in_a_row()).then_some(Some(trial))
    }

    /// Whether an attempt counts: of a session only the first one in a step, as the others are no independent evidence.
    fn is_unit(&self, session: Option<u64>) -> bool {
        let is_first = session.is_none_or(|session| self.sessions.note(session));
        if !is_first {
            self.repeats.fetch_add(1, Ordering::Relaxed);
        }
        is_first
    }

    fn answered(&self, answer: &Answered) {
        if let Some(keeps_schema) = answer.keeps_schema {
            self.schema_failures.fetch_add((!keeps_schema).into(), Ordering::Relaxed);
            self.schema_checks.fetch_add(1, Ordering::Relaxed);
        }
        self.latency.add(answer.latency);
        answer.first_token.iter().for_each(|time| self.first_token.add(*time));
        answer.token_time.iter().for_each(|time| self.token_time.add(*time));
        if let Some(cost) = answer.cost.filter(|_| answer.tokens > 0) {
            self.price.add_to(analysis::price_bucket(cost * 1e3 / answer.tokens as f64));
        }
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// A score that somebody gave an answer, from 0 to 1; of a session only the first one in a step counts.
    pub fn rated(&self, session: Option<u64>, score: f64) {
        if session.is_none_or(|session| self.raters.note(session)) {
            self.disliked.fetch_add((score < GOOD_SCORE).into(), Ordering::Relaxed);
            self.rated.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A version that failed in an earlier rollout gets another chance.
    pub fn begin_rollout(&self) {
        self.failed_in_a_row.store(0, Ordering::Relaxed);
        self.is_proven.store(false, Ordering::Relaxed);
    }

    /// Sessions may be counted again.
    pub fn begin_step(&self) {
        self.sessions.forget();
        self.raters.forget();
    }

    /// How many attempts failed since the last one that didn't.
    pub fn failed_in_a_row(&self) -> u64 {
        self.failed_in_a_row.load(Ordering::Relaxed)
    }

    /// The counts, `with_sizes` those by size, too.
    pub fn read(&self, with_sizes: bool) -> Observed {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let sizes = |sizes: &Sizes| if with_sizes { sizes.read() } else { Sketch::default() };
        // The parts before the whole: a count that is under way makes no share over 1.
        let (failures, schema_failures) = (read(&self.failures), read(&self.schema_failures));
        let disliked = read(&self.disliked);
        Observed {
            failures,
            schema_failures,
            disliked,
            rated: read(&self.rated),
            repeats: read(&self.repeats),
            schema_checks: read(&self.schema_checks),
            latency: sizes(&self.latency),
            first_token: sizes(&self.first_token),
            token_time: sizes(&self.token_time),
            price: sizes(&self.price),
            attempts: read(&self.attempts),
        }
    }
}

/// Durations or prices, counted by size.
#[derive(Debug)]
struct Sizes(Box<[AtomicU32]>);

impl Default for Sizes {
    fn default() -> Self {
        Self((0..analysis::BUCKETS).map(|_| AtomicU32::new(0)).collect())
    }
}

impl Sizes {
    fn add(&self, duration: Duration) {
        self.add_to(analysis::bucket(duration));
    }

    fn add_to(&self, bucket: usize) {
        if let Some(count) = self.0.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(&self) -> Sketch {
        Sketch::new(self.0.iter().map(|count| count.load(Ordering::Relaxed).into()))
    }
}

/// Which sessions were noted: a bit for each of 65,536 groups of them, so that it never takes more than 8 KiB. A session
/// whose group was noted is taken for noted itself, which is as likely on both sides of a rollout and loses evidence, but
/// never counts anything twice.
#[derive(Debug, Default)]
struct Sessions(OnceLock<Box<[AtomicU64; Self::WORDS]>>);

impl Sessions {
    const WORDS: usize = 1024;

    /// Notes one; whether it wasn't.
    fn note(&self, session: u64) -> bool {
        let words = self.0.get_or_init(|| Box::new([const { AtomicU64::new(0) }; Self::WORDS]));
        // The upper bits: by the lower ones it has its side of the rollout.
        let group = (session >> 48) as usize;
        let bit = 1 << (group % 64);
        words[group / 64 % Self::WORDS].fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    fn forget(&self) {
        self.0.get().into_iter().flat_map(|words| words.iter()).for_each(|word| word.store(0, Ordering::Relaxed));
    }
}
