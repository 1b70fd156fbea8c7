//! The gateway next to nginx, before a stub that answers at once: what is measured is the gateway's own work.
//!
//! Each figure of a target is taken right after the same one of the stub without a target ("added" is the difference), the
//! targets take turns, and a ratio is taken within its round.

mod answer;
mod choosing;
pub mod floor;
pub mod hops;
mod load;
mod pinned;
mod stub;
mod targets;

use std::time::Duration;

use self::targets::{Api, Measured, Phase, Target};
use crate::{
    machine,
    support::{Scratch, free_port},
    table::{Aim, Table, median, spread},
};

/// The name by which nodes hold the model.
const MODEL: &str = "drover-0a1b2c3d/stub:v1.0.0";
/// The name of its deployment, by which callers ask for it.
const PLAIN: &str = "stub";
/// Chunks of a stream.
const CHUNKS: usize = 50;
/// How long the chunks of a paced stream are apart.
const PACE: Duration = Duration::from_millis(10);
/// Seconds of one measurement, unless `BENCH_SECONDS` says otherwise.
const SECONDS: f64 = 1.5;

/// What ratios are in.
const TIMES: &str = " × nginx";

const STUB: &str = "gateway-stub";
const LOAD: &str = "gateway-load";

/// The stub and the load are this program, started once more; true if that is what this process was.
pub fn is_helper() -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(STUB) => stub::main(&arguments[1..]),
        Some(LOAD) => load::main(&arguments[1]),
        _ => return false,
    }
    true
}

pub async fn run(table: &mut Table) {
    let scratch = Scratch::new();
    let ports: Vec<u16> = (0..16).map(|_| free_port()).collect();
    let bench = Bench {
        stub: Target::stub(scratch.path(), &ports).await,
        nginx: Target::nginx(scratch.path(), ports[0]).await,
        gateways: vec![
            ("1 node", Target::gateway(scratch.path(), &ports[..1], &[]).await),
            ("16 nodes", Target::gateway(scratch.path(), &ports, &[]).await),
        ],
        seconds: seconds(),
    };
    table.note("load of the machine", machine::load());
    let idle: Vec<(f64, f64)> = bench.gateways.iter().map(|(_, gateway)| gateway.memory()).collect();
    bench.warm_up();
    for api in Api::ALL {
        bench.saturated(table, api, &idle);
        bench.latency(table, api, "one at a time", Phase { connections: 1, ..WHOLE }, 7);
        bench.latency(table, api, "at 1,000/s", Phase { rate: Some(1000.0), ..WHOLE }, 5);
        bench.stub.set_delay(PACE).await;
        bench.paced(table, api);
        bench.stub.set_delay(Duration::ZERO).await;
        bench.flat_out(table, api);
    }
    bench.memory(table);
    drop(bench);
    choosing::run(table);
}

/// How long one measurement takes.
fn seconds() -> f64 {
    std::env::var("BENCH_SECONDS").map_or(SECONDS, |text| text.parse().expect("a number of seconds"))
}

const WHOLE: Phase = Phase { model: PLAIN, connections: 32, rate: None, stream: false, spread: Duration::ZERO };
const STREAM: Phase = Phase { connections: 16, stream: true, ..WHOLE };

struct Bench {
    stub: Target,
    nginx: Target,
    gateways: Vec<(&'static str, Target)>,
    seconds: f64,
}

/// One round: the stub alone, nginx, and each gateway.
struct Round {
    direct: Measured,
    nginx: Measured,
    gateways: Vec<Measured>,
}

impl Bench {
    /// Fills pools and caches.
    fn warm_up(&self) {
        for target in self.gateways.iter().map(|(_, gateway)| gateway).chain([&self.nginx]) {
            target.measure(Api::Ollama, WHOLE, 0.5);
        }
    }

    fn rounds(&self, api: Api, phase: Phase, count: usize) -> Vec<Round> {
        let round = |_| Round {
            direct: self.stub.measure(api, phase, self.seconds / 2.0),
            nginx: self.nginx.measure(api, phase, self.seconds),
            gateways: self.gateways.iter().map(|(_, gateway)| gateway.measure(api, phase, self.seconds)).collect(),
        };
        (0..count).map(round).collect()
    }

    fn saturated(&self, table: &mut Table, api: Api, idle: &[(f64, f64)]) {
        let rounds = self.rounds(api, WHOLE, 5);
        let (rate, cpu) = match api {
            Api::Ollama => (Aim::AtLeast(0.45, 0.6), Aim::AtMost(2.2, 1.6)),
            Api::OpenAi => (Aim::AtLeast(0.35, 0.5), Aim::AtMost(2.8, 2.0)),
        };
        for (index, (fleet, _)) in self.gateways.iter().enumerate() {
            let name = format!("{}, {fleet}", api.name());
            let requests = Compared::new(&rounds, index, |measured| measured.figures.rate);
            table.aim(format!("requests/s, {name}"), rate, TIMES, requests.tell("/s"), requests.ratio());
            let each = Compared::new(&rounds, index, |measured| measured.cpu);
            table.aim(format!("CPU per request, {name}"), cpu, TIMES, each.tell(" µs"), each.ratio());
            if api == Api::ALL[0] {
                let (all, private) = idle[index];
                let figure = format!("{all:.1} MiB, {private:.1} of them private");
                table.aim(format!("memory idle, {fleet}"), Aim::AtMost(25.0, 15.0), " MiB", figure, all);
            }
        }
    }

    /// After all of the load: what it holds once it had that much to do.
    fn memory(&self, table: &mut Table) {
        for (fleet, gateway) in &self.gateways {
            let (loaded, private) = gateway.memory();
            let figure = format!("{loaded:.1} MiB, {private:.1} of them private");
            table.aim(format!("memory loaded, {fleet}"), Aim::AtMost(40.0, 25.0), " MiB", figure, loaded);
        }
    }

    fn latency(&self, table: &mut Table, api: Api, how: &str, phase: Phase, count: usize) {
        let rounds = self.rounds(api, phase, count);
        for (index, (fleet, _)) in self.gateways.iter().enumerate() {
            let name = format!("{how}, {}, {fleet}", api.name());
            let p50 = Compared::added(&rounds, index, |measured| measured.figures.whole.p50);
            let aim = Aim::AtMost(1.35, 1.2);
            table.aim(format!("added p50, {name}"), aim, TIMES, p50.tell(" µs"), p50.ratio());
            let p99 = Compared::added(&rounds, index, |measured| measured.figures.whole.p99);
            if phase.connections == 1 {
                let aim = Aim::AtMost(1.75, 1.3);
                table.aim(format!("added p99, {name}"), aim, TIMES, p99.tell(" µs"), p99.ratio());
            } else {
                table.note(format!("added p99, {name}"), p99.tell(" µs"));
            }
        }
    }

    /// Streams that begin and go on at different times, as those of different callers do; and, as a note, when all begin at
    /// the same moment: then the middle one of them waits for half of the others, and what is measured is 8 requests at once.
    fn paced(&self, table: &mut Table, api: Api) {
        for (spread, how) in [(PACE, "a paced stream"), (Duration::ZERO, "16 paced streams that begin at once")] {
            let rounds = self.rounds(api, Phase { spread, ..STREAM }, 5);
            for (index, (fleet, _)) in self.gateways.iter().enumerate() {
                let first = Compared::added(&rounds, index, |measured| measured.figures.first.p50);
                let more: Vec<f64> = first.ours.iter().zip(&first.nginx).map(|(ours, nginx)| ours - nginx).collect();
                let figure = format!("nginx {:+.0} µs: {}", median(&more), first.tell(" µs added"));
                let what = format!("first chunk of {how}, more than nginx adds, {}, {fleet}", api.name());
                if spread.is_zero() {
                    table.note(what, figure);
                } else {
                    table.aim(what, Aim::AtMost(120.0, 50.0), " µs", figure, median(&more));
                }
            }
        }
    }

    fn flat_out(&self, table: &mut Table, api: Api) {
        let rounds = self.rounds(api, STREAM, 3);
        let aim = if api == Api::Ollama { Aim::AtLeast(0.9, 1.0) } else { Aim::AtLeast(0.5, 0.7) };
        for (index, (fleet, _)) in self.gateways.iter().enumerate() {
            let chunks = Compared::new(&rounds, index, |measured| measured.figures.events);
            let what = format!("chunks/s flat out, {}, {fleet}", api.name());
            table.aim(what, aim, TIMES, chunks.tell("/s"), chunks.ratio());
        }
    }
}

/// A figure of a gateway and of nginx, by round.
struct Compared {
    ours: Vec<f64>,
    nginx: Vec<f64>,
}

impl Compared {
    fn new(rounds: &[Round], gateway: usize, figure: impl Fn(&Measured) -> f64) -> Self {
        let ours = rounds.iter().map(|round| figure(&round.gateways[gateway])).collect();
        Self { ours, nginx: rounds.iter().map(|round| figure(&round.nginx)).collect() }
    }

    /// What is more than without a proxy.
    fn added(rounds: &[Round], gateway: usize, figure: impl Fn(&Measured) -> f64) -> Self {
        let added = |measured: &dyn Fn(&Round) -> f64| -> Vec<f64> {
            rounds.iter().map(|round| measured(round) - figure(&round.direct)).collect()
        };
        Self { ours: added(&|round| figure(&round.gateways[gateway])), nginx: added(&|round| figure(&round.nginx)) }
    }

    fn ratios(&self) -> Vec<f64> {
        self.ours.iter().zip(&self.nginx).map(|(ours, nginx)| ours / nginx).collect()
    }

    fn ratio(&self) -> f64 {
        median(&self.ratios())
    }

    fn tell(&self, unit: &str) -> String {
        let (ours, nginx) = (median(&self.ours), median(&self.nginx));
        format!("{} ×: {ours:.0}{unit}, nginx {nginx:.0}{unit}", spread(&self.ratios()))
    }
}
