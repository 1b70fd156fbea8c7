//! What it costs to ask for a model by the name of something that stands for it: a profile, a chain, a worker, next to the
//! plain name of the deployment that all of them come to. The names take turns, and a ratio is taken within its round.

use super::{
    PLAIN, WHOLE, seconds,
    targets::{Api, Measured, Phase, Target},
};
use crate::{
    machine,
    support::{Scratch, free_port},
    table::{Table, median, spread},
};

/// The first one is what the others are compared with.
const NAMES: [&str; 4] = [PLAIN, "profile/hop", "chain/hop", "worker/hop"];
const ROUNDS: usize = 9;
/// Of the requests/s by the plain name.
const GOAL: f64 = 0.95;

pub async fn run(table: &mut Table) {
    let (scratch, port) = (Scratch::new(), free_port());
    let _stub = Target::stub(scratch.path(), &[port]).await;
    let gateway = Target::gateway(scratch.path(), &[port], &[]).await;
    table.note("load of the machine", machine::load());
    let measure = |model, seconds| gateway.measure(Api::Ollama, Phase { model, ..WHOLE }, seconds);
    for name in NAMES {
        measure(name, 0.5);
    }
    let mut measured = [const { Vec::<Measured>::new() }; NAMES.len()];
    for round in 0..ROUNDS {
        // Another one begins each round, so that what comes first has no advantage.
        for at in (0..NAMES.len()).map(|turn| (round + turn) % NAMES.len()) {
            measured[at].push(measure(NAMES[at], seconds()));
        }
    }
    let figures = |of: fn(&Measured) -> f64| measured.each_ref().map(|all| all.iter().map(of).collect::<Vec<f64>>());
    let (rates, cpu) = (figures(|measured| measured.figures.rate), figures(|measured| measured.cpu));
    for (at, name) in NAMES.iter().enumerate().skip(1) {
        let ratios: Vec<f64> = rates[at].iter().zip(&rates[0]).map(|(rate, plain)| rate / plain).collect();
        let figure = format!(
            "{} ×: {:.0}/s, plain {:.0}/s; CPU {:.1} µs, plain {:.1} µs",
            spread(&ratios),
            median(&rates[at]),
            median(&rates[0]),
            median(&cpu[at]),
            median(&cpu[0])
        );
        table.goal(
            format!("requests/s by {name}: ≥ {GOAL} × by the deployment's name"),
            figure,
            median(&ratios) >= GOAL,
        );
    }
}
