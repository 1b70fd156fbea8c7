//! Simulated rollouts of sessions that stay on their side, some of which send far more requests than others, and some of
//! which always fail: how often a version no worse than stable is taken back, by requests and by sessions.

use std::{sync::Arc, time::Duration};

use drover::{
    domain::{
        analysis::{Analysis, Batch, Criterion, Limit, Measure, Reading, Settings},
        routing::{is_canary_session, session_hash},
    },
    gateway::counter::{Account, Answered, Counter},
};
use jiff::{SignedDuration, Timestamp};
use rand::{RngExt, SeedableRng, rngs::StdRng};

const SESSIONS: usize = 600;
/// Requests of the longest session; half of them have one or two.
const LONGEST: f64 = 200.0;
/// Sessions of which every request fails, and how often those of others do.
const HOPELESS: f64 = 0.03;
const ERRORS: f64 = 0.002;
const WEIGHTS: [u8; 2] = [20, 50];
const BATCHES: usize = 24;

/// What is simulated.
#[derive(Clone, Copy)]
pub struct Sessions {
    /// Whether a session counts once in a step; else each of its requests counts.
    pub as_units: bool,
    /// The requests of a session come to any of these.
    pub gateways: usize,
    /// By how much more of the canary's requests fail.
    pub worse_by: f64,
}

/// One side's counters, by gateway.
type Side = Vec<Arc<Counter>>;

struct Session {
    hash: u64,
    is_hopeless: bool,
    requests: u32,
}

/// How many of so many rollouts are taken back.
pub fn rolled_back(rollouts: usize, sessions: Sessions) -> usize {
    let mut chance = StdRng::seed_from_u64(11);
    (0..rollouts).filter(|rollout| is_rolled_back(&mut chance, *rollout, sessions)).count()
}

fn is_rolled_back(chance: &mut StdRng, rollout: usize, sessions: Sessions) -> bool {
    let id = format!("r-{rollout}");
    let settings = settings(sessions.as_units);
    let [stable, canary]: [Side; 2] = [(); 2].map(|()| (0..sessions.gateways).map(|_| Arc::default()).collect());
    let mut analysis = Analysis::new(&id, 0, false);
    let mut at = Timestamp::UNIX_EPOCH;
    let people: Vec<Session> = (0..SESSIONS).map(|name| person(chance, &id, name)).collect();
    for (step, weight) in (0..).zip(WEIGHTS) {
        stable.iter().chain(&canary).for_each(|counter| counter.begin_step());
        if step > 0 {
            analysis.begin_step(Some(&settings), &id, step);
        }
        let mut since = read(&stable, &canary);
        for _ in 0..BATCHES {
            at += SignedDuration::from_secs(30);
            for person in &people {
                let is_canary = is_canary_session(person.hash, weight);
                send(chance, person, sessions, if is_canary { (&canary, sessions.worse_by) } else { (&stable, 0.0) });
            }
            let now = read(&stable, &canary);
            let batch = Batch { rollout_id: id.clone(), at, ..Batch::between(&since, &now, "stable", "canary") };
            if batch.is_enough() {
                since = now;
                if analysis.add(&settings, &batch).is_some() {
                    return true;
                }
            }
        }
    }
    false
}

fn settings(as_units: bool) -> Settings {
    let limit = Limit::Increase(0.0);
    Settings {
        interval: Duration::from_secs(30),
        min_requests: 50,
        criteria: vec![Criterion { measure: Measure::ErrorRate, limit, dry_run: false }],
        queries: Vec::new(),
        failure_limit: 2,
        consecutive_successes: 1,
        parts: if as_units { WEIGHTS.len() as u32 } else { 1 },
    }
}

fn person(chance: &mut StdRng, rollout: &str, name: usize) -> Session {
    let requests = (1.0 / chance.random::<f64>()).min(LONGEST) as u32;
    let hash = session_hash(rollout, format!("session-{name}").as_bytes());
    Session { hash, is_hopeless: chance.random_bool(HOPELESS), requests }
}

/// What a session sends in one batch: its requests are spread over the whole rollout.
fn send(chance: &mut StdRng, session: &Session, sessions: Sessions, (side, worse_by): (&Side, f64)) {
    let per_batch = f64::from(session.requests) / (BATCHES * WEIGHTS.len()) as f64;
    let count = per_batch as u32 + u32::from(chance.random_bool(per_batch.fract()));
    for _ in 0..count {
        let counter = side[chance.random_range(0..side.len())].clone();
        let session_hash = sessions.as_units.then_some(session.hash);
        let account = Account { counter, session: session_hash, spent: None };
        if session.is_hopeless || chance.random_bool(ERRORS + worse_by) {
            account.failed();
        } else {
            account.answered(&Answered::default());
        }
    }
}

fn read(stable: &Side, canary: &Side) -> Reading {
    let both = stable.iter().zip(canary).enumerate();
    both.map(|(gateway, (stable, canary))| {
        let counts = [("stable".to_owned(), stable.read(false)), ("canary".to_owned(), canary.read(false))];
        (gateway.to_string(), counts.into())
    })
    .collect()
}
