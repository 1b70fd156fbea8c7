//! `make demo` and `make demo-cluster`: a tour of Drover with real parts, on `drover up` or on a Kubernetes API server.
//! Whatever it claims it has checked; what isn't so ends it with exit code 1. After the tour everything stays up until
//! Ctrl-C, or ends at once when DEMO_EXIT=1 is set.

#[path = "../support/mod.rs"]
mod support;

mod parts;
mod shares;
mod shell;
mod stage;
mod tour;

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use parts::Parts;
use stage::Kind;

fn main() -> ExitCode {
    // What the support code expects, it asserts; the place in its source is of no use here.
    panic::set_hook(Box::new(|info| {
        eprintln!("\ndemo: {}", info.payload_as_str().unwrap_or("something went wrong"));
    }));
    let stage = match std::env::args().nth(1).as_deref() {
        None | Some("up") => Kind::Up,
        Some("cluster") => Kind::Cluster,
        Some(other) => {
            eprintln!("demo: {other}: write up or cluster");
            return ExitCode::FAILURE;
        }
    };
    if let Err(message) = parts::check_ports(stage) {
        eprintln!("demo: {message}");
        return ExitCode::FAILURE;
    }
    let runtime = Runtime::new().expect("a runtime");
    match panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(demo(stage)))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(message)) => {
            eprintln!("\ndemo: {message}");
            failed()
        }
        Err(_) => failed(),
    }
}

fn failed() -> ExitCode {
    eprintln!("demo: logs and data are in {}", parts::folder().display());
    ExitCode::FAILURE
}

async fn demo(stage: Kind) -> Result<(), String> {
    let mut stop = Stop::listen().map_err(|error| error.to_string())?;
    let mut parts = tokio::select! {
        toured = take_tour(stage) => toured?,
        () = stop.asked() => return Err("stopped before the end of the tour".into()),
    };
    if std::env::var_os("DEMO_EXIT").is_none_or(|value| value.is_empty() || value == "0") {
        tour::print_what_to_try_next(&mut parts);
        stop.asked().await;
    }
    println!("\nStopping everything that the tour has started.");
    parts.stop();
    Ok(())
}

async fn take_tour(stage: Kind) -> Result<Parts, String> {
    let parts = Parts::start(stage).await?;
    tour::Tour::new(&parts).await?.walk().await?;
    Ok(parts)
}

/// The wish that this program ends.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
