//! How soon it answers, from the start of the process.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use drover::standalone::Durability;

use super::{milliseconds, sides::Embedded};
use crate::{
    support::{drover::program, process::Process},
    table::{Table, median},
};

const STARTS: usize = 5;
const UP_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// `full` is the folder of an API with objects; `fresh` a folder for new ones.
pub async fn run(table: &mut Table, full: &Path, fresh: &Path) {
    let (mut with_objects, mut with_none, mut up) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..STARTS {
        let dir = fresh.join(round.to_string());
        with_objects.push(Embedded::start(full, Durability::Normal).await.ready_after.as_secs_f64());
        with_none.push(Embedded::start(&dir.join("api"), Durability::Normal).await.ready_after.as_secs_f64());
        up.push(drover_up(&dir.join("up")).await.as_secs_f64());
    }
    for (what, seconds, limit) in [
        ("API, from process to first answer, with nothing on disk: < 200 ms", &with_none, 0.2),
        ("API, from process to first answer, with 10,000 objects: < 200 ms", &with_objects, 0.2),
        ("`drover up`, from process to ready.json, the first time: < 300 ms", &up, 0.3),
    ] {
        table.goal(what, format!("{} ms", milliseconds(seconds)), median(seconds) < limit);
    }
}

/// From the start of `drover up` in a new folder until it says that all of it listens.
async fn drover_up(dir: &Path) -> Duration {
    fs::create_dir_all(dir).expect("a folder");
    let data = dir.join("data");
    let mut command = Command::new(program());
    command.env_remove("KUBECONFIG").arg("up").arg("--data-dir").arg(&data);
    for port in ["api", "gateway", "cockpit", "mirror", "health"] {
        command.arg(format!("--{port}-port")).arg("0");
    }
    let start = Instant::now();
    let mut process = Process::spawn("up", command, dir);
    while !data.join("ready.json").exists() {
        assert!(process.is_alive() && start.elapsed() < UP_WITHIN, "{}", process.diagnosis());
        tokio::time::sleep(LOOK_EVERY).await;
    }
    start.elapsed()
}
