//! What a request is made of: system calls of nginx and of the gateway (strace), and the gateway's own instructions by the
//! library that they are in (callgrind). Nothing here depends on how busy the machine is.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use super::{
    WHOLE,
    targets::{Api, Target},
};
use crate::{
    support::{Scratch, free_port, process::Process},
    table::Table,
};

/// Under strace and callgrind a request takes many times as long.
const SECONDS: f64 = 3.0;
/// System calls are told of that one request in so many makes.
const SELDOM: f64 = 0.01;
/// Libraries are told of that have so many instructions of a request.
const FEW: f64 = 1000.0;
const SOON: Duration = Duration::from_secs(30);

pub async fn run(table: &mut Table) {
    let scratch = Scratch::new();
    let port = free_port();
    let _stub = Target::stub(scratch.path(), &[port]).await;
    let nginx = Target::nginx(scratch.path(), port).await;
    table.note("system calls of a request, nginx", system_calls(scratch.path(), &nginx).await);
    drop(nginx);
    let gateway = Target::gateway(scratch.path(), &[port], &[]).await;
    table.note("system calls of a request, gateway", system_calls(scratch.path(), &gateway).await);
    drop(gateway);
    let traced = scratch.path().join("callgrind");
    let output = format!("--callgrind-out-file={}", traced.display());
    let valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", &output].map(OsStr::new);
    let gateway = Target::gateway(scratch.path(), &[port], &valgrind).await;
    for api in Api::ALL {
        let (all, by_library) = instructions(&gateway, api, &traced);
        table.note(format!("instructions of a request, gateway, {}", api.name()), format!("{all:.0}: {by_library}"));
    }
}

/// Those of one request, on average over many at once.
async fn system_calls(scratch: &Path, target: &Target) -> String {
    target.measure(Api::Ollama, WHOLE, 0.5);
    let summary = scratch.join("strace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-p", &target.pid().to_string(), "-o"]).arg(&summary);
    let mut strace = Process::spawn("strace", strace, scratch);
    // It says nothing when it has begun; what it misses of the first moments isn't much.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let answers = target.measure(Api::Ollama, WHOLE, SECONDS).figures.answers as f64;
    strace.stop_gracefully(SOON).await;
    let summary = std::fs::read_to_string(&summary).expect("what strace counted");
    let mut calls: Vec<(f64, &str)> = summary.lines().filter_map(counted).collect();
    calls.iter_mut().for_each(|(count, _)| *count /= answers);
    calls.retain(|(count, _)| *count >= SELDOM);
    calls.sort_by(|a, b| b.0.total_cmp(&a.0));
    calls.iter().map(|(count, name)| format!("{name} {count:.2}")).collect::<Vec<_>>().join(", ")
}

/// How often a call was made, by a line such as ` 45.2    0.12    3    40000    2 recvfrom`.
fn counted(line: &str) -> Option<(f64, &str)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let name = words.last().filter(|name| **name != "total")?;
    Some((words.get(3)?.parse().ok()?, name))
}

/// Those of one request: all of them, and those of each library.
fn instructions(gateway: &Target, api: Api, output: &Path) -> (f64, String) {
    let control = |arguments: &[&str]| {
        let output = Command::new("callgrind_control").args(arguments).arg(gateway.pid().to_string()).output();
        succeeded("callgrind_control", output.expect("callgrind_control runs"));
    };
    gateway.measure(api, WHOLE, SECONDS / 2.0);
    control(&["--instr=on"]);
    let answers = gateway.measure(api, WHOLE, SECONDS).figures.answers as f64;
    control(&["--instr=off"]);
    control(&["--dump"]);
    let dumps = std::fs::read_dir(output.parent().expect("a folder")).expect("a folder").flatten();
    let name = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("callgrind."));
    let newest = dumps.map(|entry| entry.path()).filter(|path| name(path)).max().expect("a dump");
    let annotated = Command::new("callgrind_annotate").arg("--threshold=100").arg(newest).output();
    let text = succeeded("callgrind_annotate", annotated.expect("callgrind_annotate runs"));
    let mut libraries: BTreeMap<String, f64> = BTreeMap::new();
    for (count, function) in text.lines().filter_map(spent) {
        *libraries.entry(library(function)).or_default() += count / answers;
    }
    let all = libraries.values().sum();
    let mut libraries: Vec<_> = libraries.into_iter().filter(|(_, count)| *count >= FEW).collect();
    libraries.sort_by(|a, b| b.1.total_cmp(&a.1));
    (all, libraries.iter().map(|(name, count)| format!("{name} {count:.0}")).collect::<Vec<_>>().join(", "))
}

fn succeeded(what: &str, output: Output) -> String {
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// By a line such as `9,116,940 ( 2.44%)  ???:hyper::proto::h1::conn::Conn<I,B,T>::poll_read_head [/path/drover]`.
fn spent(line: &str) -> Option<(f64, &str)> {
    let (count, rest) = line.trim_start().split_once(" (")?;
    let count = count.replace(',', "").parse().ok()?;
    let (_, function) = rest.split_once(")  ")?;
    let (_, function) = function.split_once(':')?;
    (!function.starts_with("TOTALS")).then_some((count, function))
}

/// The first word of its name: of `<tokio::net::TcpStream as …>::poll_read` it is `tokio`, of C functions the name itself.
fn library(function: &str) -> String {
    let name = function.trim_start_matches(['<', '&', '_']);
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
    name[..end].to_owned()
}
