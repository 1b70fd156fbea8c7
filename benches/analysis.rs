//! How often the analysis of a canary is wrong, and how soon it is right: simulated rollouts, next to a plain threshold.

use std::time::Duration;

use drover::domain::analysis::{Analysis, Batch, Criterion, Limit, Measure, Observed, Settings, Sketch, bound, bucket};
use jiff::{SignedDuration, Timestamp};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    sessions::{Sessions, rolled_back},
    table::Table,
};

const ROLLOUTS: usize = 1000;
/// Requests to both sides in one interval.
const PER_BATCH: u64 = 250;
/// The intervals of each step: 20 and 50 percent.
const BATCHES: [usize; 2] = [96, 96];
const WEIGHTS: [u64; 2] = [20, 50];
/// So many breaches in a row make a plain threshold roll back.
const IN_A_ROW: usize = 2;
const ERRORS: f64 = 0.01;
const USUAL: f64 = 0.8;

/// How one version behaves.
#[derive(Clone, Copy)]
struct Behaviour {
    errors: f64,
    /// Times the usual latency.
    slowness: f64,
}

const EQUAL: Behaviour = Behaviour { errors: ERRORS, slowness: 1.0 };

/// One pair of limits, as analysis and as plain thresholds.
#[derive(Clone, Copy)]
struct Limits {
    errors: f64,
    latency: f64,
}

/// The canary's requests until the rollback, of each rollout that was rolled back.
struct Outcome {
    tested: Vec<u64>,
    plain: Vec<u64>,
}

pub fn run(table: &mut Table) {
    let strict = Limits { errors: 0.0, latency: 1.0 };
    let usual = Limits { errors: 0.02, latency: 1.2 };
    let equal = simulate(EQUAL, strict);
    let share = equal.tested.len() as f64 / ROLLOUTS as f64;
    let goal = "equal versions rolled back, no margin: at most 1 %";
    table.goal(goal, shares(&equal), share <= 0.01);
    table.note("equal versions rolled back, margins of 2 points and 1.2 ×", shares(&simulate(EQUAL, usual)));
    of_sessions(table);
    let cases = [
        ("5 points more errors, no margin", Behaviour { errors: ERRORS + 0.05, ..EQUAL }, strict),
        ("5 points more errors, margin of 2 points", Behaviour { errors: ERRORS + 0.05, ..EQUAL }, usual),
        ("20 % slower, no margin", Behaviour { slowness: 1.2, ..EQUAL }, strict),
        ("50 % slower, margin of 1.2 ×", Behaviour { slowness: 1.5, ..EQUAL }, usual),
        ("every second request fails", Behaviour { errors: 0.5, ..EQUAL }, usual),
    ];
    for (name, canary, limits) in cases {
        let found = simulate(canary, limits);
        let figure = format!("{}; caught: {}", requests(&found), shares(&found));
        table.note(format!("{name}: requests to the canary until the rollback"), figure);
    }
}

/// Sessions of very different length, some of which always fail.
fn of_sessions(table: &mut Table) {
    let share = |sessions| 100.0 * rolled_back(ROLLOUTS, sessions) as f64 / ROLLOUTS as f64;
    let equal = Sessions { as_units: true, gateways: 1, worse_by: 0.0 };
    let by_session = share(equal);
    let by_request = share(Sessions { as_units: false, ..equal });
    let goal = "equal versions rolled back, sessions of 1 to 200 requests, no margin: at most 1 %";
    table.goal(goal, format!("{by_session:.1} % (requests counted: {by_request:.1} %)"), by_session <= 1.0);
    let spread = share(Sessions { gateways: 2, ..equal });
    table.note("the same, requests of a session come to two gateways", format!("{spread:.1} %"));
    let caught = share(Sessions { worse_by: 0.2, ..equal });
    table.note("sessions whose requests fail 20 points more often: caught", format!("{caught:.1} %"));
}

fn shares(outcome: &Outcome) -> String {
    let percent = |found: &[u64]| 100.0 * found.len() as f64 / ROLLOUTS as f64;
    format!("{:.1} % (plain threshold: {:.1} %)", percent(&outcome.tested), percent(&outcome.plain))
}

fn requests(outcome: &Outcome) -> String {
    let spread = |found: &[u64]| match (found.get(found.len() / 2), found.get(found.len() * 9 / 10)) {
        (Some(median), Some(most)) => format!("{median}, 90 % within {most}"),
        _ => "–".into(),
    };
    format!("{} (plain threshold: {})", spread(&outcome.tested), spread(&outcome.plain))
}

fn simulate(canary: Behaviour, limits: Limits) -> Outcome {
    let mut chance = StdRng::seed_from_u64(7);
    let mut outcome = Outcome { tested: Vec::new(), plain: Vec::new() };
    for _ in 0..ROLLOUTS {
        let (tested, plain) = rollout(&mut chance, canary, limits);
        outcome.tested.extend(tested);
        outcome.plain.extend(plain);
    }
    outcome.tested.sort_unstable();
    outcome.plain.sort_unstable();
    outcome
}

/// One rollout: after how many of the canary's requests each of the two takes it back.
fn rollout(chance: &mut StdRng, canary: Behaviour, limits: Limits) -> (Option<u64>, Option<u64>) {
    let criterion = |measure, limit| Criterion { measure, limit, dry_run: false };
    let criteria = vec![
        criterion(Measure::ErrorRate, Limit::Increase(limits.errors)),
        criterion(Measure::LatencyP95, Limit::Ratio(limits.latency)),
    ];
    let interval = Duration::from_secs(30);
    let settings = Settings {
        interval,
        min_requests: 50,
        criteria,
        queries: Vec::new(),
        failure_limit: 2,
        consecutive_successes: 1,
        parts: 1,
    };
    let mut analysis = Analysis::new("r", 0, false);
    let (mut at, mut seen, mut breaches) = (Timestamp::UNIX_EPOCH, 0, 0);
    let (mut tested, mut plain) = (None, None);
    for (weight, batches) in WEIGHTS.into_iter().zip(BATCHES) {
        for _ in 0..batches {
            at += SignedDuration::from_secs(30);
            let of_canary = PER_BATCH * weight / 100;
            seen += of_canary;
            let (stable, canary) = (observe(chance, EQUAL, PER_BATCH - of_canary), observe(chance, canary, of_canary));
            breaches = if is_breach(&stable, &canary, limits) { breaches + 1 } else { 0 };
            plain = plain.or((breaches >= IN_A_ROW).then_some(seen));
            let batch = Batch { rollout_id: "r".into(), at, stable, canary, ..Batch::default() };
            tested = tested.or(analysis.add(&settings, &batch).map(|_| seen));
            if tested.is_some() && plain.is_some() {
                return (tested, plain);
            }
        }
    }
    (tested, plain)
}

fn observe(chance: &mut StdRng, behaviour: Behaviour, attempts: u64) -> Observed {
    let failures = (0..attempts).filter(|_| chance.random_bool(behaviour.errors)).count() as u64;
    let mut counts = vec![0; 737];
    for _ in failures..attempts {
        // The sum of twelve is as good as normal; its exponential is how long answers take.
        let normal = (0..12).map(|_| chance.random::<f64>()).sum::<f64>() - 6.0;
        counts[bucket(Duration::from_secs_f64(USUAL * behaviour.slowness * (normal / 2.0).exp()))] += 1;
    }
    Observed { attempts, failures, latency: Sketch::new(counts), ..Observed::default() }
}

/// What a threshold says that looks at the figures as they are.
fn is_breach(stable: &Observed, canary: &Observed, limits: Limits) -> bool {
    let errors = |seen: &Observed| seen.failures as f64 / seen.attempts as f64;
    let p95 = |seen: &Observed| seen.latency.quantile(0.95).map_or(0.0, bound);
    errors(canary) > errors(stable) + limits.errors || p95(canary) > p95(stable) * limits.latency
}
