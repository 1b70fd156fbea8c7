//! Which core does what: load and stub share one, the target has the other for itself. Unpinned, a target with several
//! threads takes part of the load's core, and ratios of latencies move by a factor of two.

use std::{num::NonZeroU64, process::Command};

use rustix::thread::{CpuSet, sched_setaffinity, set_current_timer_slack};

const LOAD_CORE: usize = 0;
const TARGET_CORE: &str = "1";

/// Keeps this thread, and whatever it starts, on the load's core; its timers get as exact as they can be.
pub fn to_load_core() {
    let mut cores = CpuSet::new();
    cores.set(LOAD_CORE);
    sched_setaffinity(None, &cores).expect("a core for the load");
    set_current_timer_slack(NonZeroU64::new(1)).expect("exact timers");
}

/// A command that runs on the target's core.
pub fn target(program: &std::ffi::OsStr) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", TARGET_CORE]).arg(program);
    command
}
