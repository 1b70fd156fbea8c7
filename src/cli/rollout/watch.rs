//! `drover rollout status -w`: a rollout as it goes, redrawn on a terminal, a line for each change elsewhere.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    signal,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    super::{DONE, FAILED, INTERRUPTED, LATE},
    Target, view,
};
use crate::{
    api::ModelDeployment,
    cluster::{Follower, Sight},
    domain::duration::HumanDuration,
};

/// How often the countdown moves.
const REDRAW: Duration = Duration::from_secs(1);
/// Without a timeout: longer than anybody waits.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Another screen, so that what was on the terminal is there again afterwards; without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const CLEAR: &str = "\x1b[H\x1b[J";

/// Watches until the rollout is over; says by the exit code how it ended.
///
/// # Errors
/// When there is no such deployment, or Kubernetes can't be asked.
pub async fn watch(target: &Target, timeout: Option<Duration>) -> Result<u8, String> {
    let (client, namespace) = target.connect().await?;
    let mut follower = Follower::<ModelDeployment>::new(&client, Some(&namespace), None);
    let deadline = Instant::now() + timeout.unwrap_or(FOR_EVER);
    let mut screen = Screen::default();
    let mut seen = None;
    let mut redraw = interval(REDRAW);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let code = loop {
        tokio::select! {
            sight = follower.next() => match sight? {
                Sight::Objects(objects) => {
                    let found = objects.get(&(namespace.clone(), target.name.clone()));
                    let others = || objects.keys().map(|(_, name)| name.clone());
                    seen = Some(found.ok_or_else(|| target.missing(&namespace, others()))?.clone());
                }
                Sight::Broken(why) => {
                    eprintln!("drover: {why}; trying again");
                    continue;
                }
            },
            _ = redraw.tick(), if screen.is_live => {}
            _ = signal::ctrl_c() => break INTERRUPTED,
            () = sleep_until(deadline) => {
                let limit = HumanDuration(timeout.unwrap_or(FOR_EVER));
                eprintln!("drover: {}: not over after {limit}", target.name);
                break LATE;
            }
        }
        let Some(deployment) = &seen else { continue };
        screen.show(deployment);
        match view::ended(deployment) {
            Some(true) => break DONE,
            Some(false) => break FAILED,
            None => {}
        }
    };
    let was_live = screen.is_live;
    drop(screen);
    if let Some(deployment) = seen.filter(|_| was_live) {
        print!("{}", view::describe(&deployment, Timestamp::now()));
    }
    Ok(code)
}

/// What is drawn on.
struct Screen {
    /// Whether it is a terminal, which can be drawn over.
    is_live: bool,
    /// The last line, elsewhere.
    told: String,
}

impl Default for Screen {
    fn default() -> Self {
        let is_live = io::stdout().is_terminal();
        if is_live {
            print!("{ENTER}");
        }
        Self { is_live, told: String::new() }
    }
}

impl Screen {
    fn show(&mut self, deployment: &ModelDeployment) {
        if self.is_live {
            let now = Timestamp::now();
            print!("{CLEAR}{}\nCtrl-C ends the view, not the rollout.\n", view::picture(deployment, now));
            // Whoever looks has gone if this fails.
            let _ = io::stdout().flush();
            return;
        }
        let line = view::summary(deployment);
        if line != self.told {
            println!("{line}");
            self.told = line;
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.is_live {
            print!("{LEAVE}");
            // As above.
            let _ = io::stdout().flush();
        }
    }
}
