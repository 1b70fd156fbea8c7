//! Processes that never outlive their test: each is the leader of a process group of its own, which is killed when
//! the value is dropped. A reaper, one small shell per test process, kills what is left when the test process ends
//! without dropping it (a crash, a kill, a server kept in a `static`).

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// A running program and everything that it starts.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Set once the end was noticed; from then on its number may belong to another process.
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts the command; its output is appended to `NAME.log` in `log_dir`.
    pub fn spawn(name: &str, mut command: Command, log_dir: &Path) -> Self {
        fs::create_dir_all(log_dir).unwrap_or_else(|error| panic!("{}: {error}", log_dir.display()));
        let log = log_dir.join(format!("{name}.log"));
        let open = || File::options().create(true).append(true).open(&log);
        let output = open().unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let errors = output.try_clone().expect("a second handle to the log");
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {command:?}: {error}"));
        Reaper::tell("start", child.id());
        Self { name: name.to_owned(), child, log, ended: None }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_alive(&mut self) -> bool {
        self.exit_status().is_none()
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            let status = self.child.try_wait().unwrap_or_else(|error| panic!("{}: {error}", self.name));
            status.map(|status| self.settle(status))
        } else {
            self.ended
        }
    }

    /// SIGKILL to the program and all that it started; returns when it is gone.
    pub fn kill9(&mut self) -> ExitStatus {
        if self.ended.is_none() {
            self.signal_group(Signal::KILL);
        }
        let status = self.child.wait().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        self.settle(status)
    }

    /// Ends also what the program has left behind.
    fn settle(&mut self, status: ExitStatus) -> ExitStatus {
        if self.ended.is_none() {
            self.signal_group(Signal::KILL);
            self.ended = Some(status);
            Reaper::tell("end", self.child.id());
        }
        status
    }

    /// SIGTERM to the program alone, then waits for its end. Panics with the log when it takes longer.
    pub async fn stop_gracefully(&mut self, within: Duration) -> ExitStatus {
        if self.is_alive() {
            kill_process(self.group(), Signal::TERM).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        }
        self.ended(within).await
    }

    /// Waits for the program to end by itself. Panics with the log when it takes longer.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            match self.exit_status() {
                Some(status) => return status,
                None if start.elapsed() > within => {
                    panic!("{} still runs after {within:?}\n{}", self.name, self.tail())
                }
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Freezes the program: its connections stay open, nothing answers.
    pub fn pause(&self) {
        self.signal_group(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal_group(Signal::CONT);
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// For the message of a failed wait: still running?, where the log is and how it ends.
    pub fn diagnosis(&mut self) -> String {
        match self.exit_status() {
            Some(status) => format!("{} has ended: {status}\n{}", self.name, self.tail()),
            None => format!("{} runs\n{}", self.name, self.tail()),
        }
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!("--- end of {}\n{}", self.log.display(), lines[lines.len().saturating_sub(20)..].join("\n"))
    }

    fn signal_group(&self, signal: Signal) {
        // All of the group may have ended already.
        let _ = kill_process_group(self.group(), signal);
    }

    fn group(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// The other end of this shell's input closes when the test process ends, in whatever way.
struct Reaper(Child);

impl Reaper {
    const SCRIPT: &str = r#"
        groups=' '
        while read -r event id; do
          case $event in
            start) groups="$groups$id " ;;
            end) groups="${groups%% "$id" *} ${groups#* "$id" }" ;;
          esac
        done
        for id in $groups; do kill -KILL "-$id"; done
    "#;

    fn start() -> Mutex<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", Self::SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Mutex::new(Self(shell.process_group(0).spawn().expect("sh starts")))
    }

    fn tell(event: &str, group: u32) {
        static REAPER: LazyLock<Mutex<Reaper>> = LazyLock::new(Reaper::start);
        let mut reaper = REAPER.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let input = reaper.0.stdin.as_mut().expect("its input is a pipe");
        writeln!(input, "{event} {group}").expect("the reaper listens");
    }
}
