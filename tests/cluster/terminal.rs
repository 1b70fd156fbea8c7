//! `drover rollout status -w` on a terminal: a real one, which `script` of util-linux makes.

use std::{
    process::Stdio,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, Command},
    task::JoinHandle,
};

use crate::{
    fleet::Fleet,
    namespace::SOON,
    support::{drover::program, eventually},
};

/// What a program writes that draws on a screen of its own: it enters it, clears it before each picture, and leaves it.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const CLEAR: &str = "\x1b[H\x1b[J";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// The key by which a terminal interrupts what runs on it.
const CTRL_C: &[u8] = b"\x03";

/// A terminal on which a rollout is watched.
pub struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    shown: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Follows `bot`.
    pub fn open(fleet: &Fleet) -> Self {
        let watch = format!("{} rollout status bot -w -n {}", program().display(), fleet.name);
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--flush", "--command", &watch, "/dev/null"]);
        command.env("KUBECONFIG", fleet.api.kubeconfig()).env("SHELL", "/bin/sh");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("script, of util-linux, starts");
        let keyboard = child.stdin.take().expect("piped");
        let mut screen = child.stdout.take().expect("piped");
        let shown = Arc::<Mutex<String>>::default();
        let seen = shown.clone();
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            while screen.read_buf(&mut all).await.is_ok_and(|more| more > 0) {
                *seen.lock().expect("no panic") = String::from_utf8_lossy(&all).replace("\r\n", "\n");
            }
        });
        Self { child, keyboard, shown, reader }
    }

    fn shown(&self) -> String {
        self.shown.lock().expect("no panic").clone()
    }

    /// The whole pictures so far; one that is being drawn is none.
    fn pictures(&self) -> Vec<String> {
        let shown = self.shown();
        let pictures = shown.split(CLEAR).skip(1);
        pictures.filter(|picture| picture.contains("Ctrl-C ends the view")).map(str::to_owned).collect()
    }

    /// Waits until the last picture has all of this.
    pub async fn shows(&self, parts: &[&str]) {
        eventually(&format!("the terminal shows {parts:?}"), SOON, async || {
            let last = self.pictures().pop().unwrap_or_default();
            if parts.iter().all(|part| last.contains(part)) { Ok(()) } else { Err(self.shown()) }
        })
        .await;
    }

    /// Waits until it was drawn again with another time that is left.
    pub async fn counts_down(&self) {
        eventually("the countdown moves", SOON, async || {
            let left =
                |picture: &String| picture.lines().find_map(|line| Some(line.split_once("left in ")?.1.to_owned()));
            let mut times: Vec<String> = self.pictures().iter().filter_map(left).collect();
            times.dedup();
            if times.len() >= 2 { Ok(()) } else { Err(format!("{times:?}")) }
        })
        .await;
    }

    pub async fn press_ctrl_c(&mut self) {
        self.keyboard.write_all(CTRL_C).await.expect("somebody reads");
        self.keyboard.flush().await.expect("somebody reads");
    }

    /// Waits for the end: the exit code, and what stays on the terminal after the view is left.
    pub async fn ended(mut self) -> (Option<i32>, String) {
        let end = async {
            let status = self.child.wait().await.expect("script ends");
            (&mut self.reader).await.expect("no panic");
            status
        };
        let status = tokio::time::timeout(SOON, end).await.unwrap_or_else(|_| panic!("no end: {}", self.shown()));
        let shown = self.shown();
        assert!(shown.starts_with(ENTER), "a screen of its own: {shown:?}");
        assert_eq!(shown.matches(LEAVE).count(), 1, "the terminal is as it was: {shown:?}");
        let (_, rest) = shown.split_once(LEAVE).expect("just counted");
        (status.code(), rest.to_owned())
    }
}
