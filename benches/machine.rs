//! What the kernel says of processes and of the machine.

use std::{fs, time::Duration};

/// The memory of a process in MB: now and at its highest.
pub fn memory(pid: u32) -> (f64, f64) {
    (status(pid, "VmRSS:") / 1000.0 * 1.024, status(pid, "VmHWM:") / 1000.0 * 1.024)
}

/// The memory of a process that is in no file, in MB: what nobody else could share.
pub fn private_memory(pid: u32) -> f64 {
    status(pid, "RssAnon:") / 1000.0 * 1.024
}

/// A number of KiB in a process's status.
fn status(pid: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with(name)).expect("a line of /proc/PID/status");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// The CPU time that a process has used.
pub fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The second field is the name in parentheses, which may hold spaces.
    let (_, fields) = stat.rsplit_once(") ").expect("fields after the name");
    let ticks = |at: usize| fields.split(' ').nth(at).and_then(|n| n.parse::<u64>().ok()).expect("a number");
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// Runnable tasks over the last minute: how busy the machine is with everything.
pub fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").expect("the load");
    load.split(' ').next().expect("three averages").to_owned()
}
