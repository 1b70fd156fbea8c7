//! One attempt to bring a model onto a node, and what to do next there.

use jiff::Timestamp;

use super::{Fault, Hold, NodePhase, Progress};

/// The last failure of something that is tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// What happened.
    pub fault: Fault,
    /// In the words of whoever refused.
    pub message: String,
    /// How many tries in a row have failed.
    pub failures: u32,
    /// When the next try is due.
    pub retry_at: Timestamp,
}

impl Failure {
    /// The failure that follows `earlier`. Words that differ in details only (ports, times) stay as they were until the
    /// number of failures doubled: what people see, and what is written, changes ever more rarely.
    pub fn after(earlier: Option<&Self>, fault: Fault, message: String, retry_at: Timestamp) -> Self {
        let failures = earlier.map_or(0, |earlier| earlier.failures).saturating_add(1);
        let same = earlier.filter(|earlier| earlier.fault == fault && rounded(earlier.failures) == rounded(failures));
        let message = same.map_or(message, |earlier| earlier.message.clone());
        Self { fault, message, failures, retry_at }
    }

    /// For people: what happened, what to do and roughly how often it happened.
    pub fn sentence(&self) -> String {
        let times = match rounded(self.failures) {
            0 | 1 => "1 attempt failed".into(),
            times => format!("{times} or more attempts failed"),
        };
        format!("{}: {} ({times})", self.message, self.fault.advice())
    }
}

/// The largest power of two up to a number.
fn rounded(failures: u32) -> u32 {
    if failures == 0 { 0 } else { 1 << failures.ilog2() }
}

/// Where an attempt stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// Waits for its turn.
    Queued(Hold),
    /// Under way.
    Running(Progress),
    /// Finished: the node holds the model with this digest.
    Done {
        /// The digest the node reported right after the pull.
        digest: String,
        /// Bytes on its disk.
        size_bytes: i64,
        /// The digest it had under the name before.
        before: Option<String>,
    },
    /// None is under way; the last one failed.
    Failed,
}

/// How the attempts on one node stand, as their tasks report it.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Where the present one stands.
    pub stage: Stage,
    /// The last failure since the last success.
    pub failure: Option<Failure>,
    /// Why the mirror was passed by, if it was.
    pub bypass: Option<String>,
}

impl Attempt {
    /// One that has not failed before.
    pub fn new(stage: Stage) -> Self {
        Self { stage, failure: None, bypass: None }
    }

    /// Whether it waits or is under way.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Queued(_) | Stage::Running(_))
    }

    /// The digest that the node holds after it, given what the node's list says: the list may be older than the end
    /// of the attempt, and then still says what it said before.
    fn outcome(&self, listed: Option<&str>) -> Option<&str> {
        match &self.stage {
            Stage::Done { digest, before, .. } if before.as_deref() == listed => Some(digest),
            _ => None,
        }
    }

    /// Whether the node's list says by now what the attempt came to.
    pub fn is_listed(&self, listed: Option<&str>) -> bool {
        match &self.stage {
            Stage::Done { digest, before, .. } => listed == Some(digest.as_str()) || before.as_deref() != listed,
            _ => false,
        }
    }
}

/// The digest a node holds under a model's name, by its list and by what the last attempt came to.
pub fn held<'a>(listed: Option<&'a str>, attempt: Option<&'a Attempt>) -> Option<&'a str> {
    attempt.and_then(|attempt| attempt.outcome(listed)).or(listed)
}

/// What a tag stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The digest as nodes report it.
    pub digest: &'a str,
    /// The registry's own.
    pub upstream_digest: &'a str,
}

/// From where a node pulls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source<'a> {
    /// From the registry itself.
    Direct {
        /// Whether the node is to be asked to pull again though it has the model.
        due: bool,
    },
    /// Through the mirror.
    Mirror {
        /// What the tag stands for, if that was ever learnt.
        target: Option<Target<'a>>,
        /// Whether the mirror lets nodes pull it now.
        granted: bool,
        /// Why the mirror did not say, the last time.
        failure: Option<&'a Failure>,
    },
}

/// What an object wants of a node.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The digest that it must have, as nodes or the registry report it.
    pub pin: Option<&'a str>,
    /// Whether it follows the tag when that moves.
    pub follow: bool,
    /// Held by `spec.suspend`.
    pub suspended: bool,
    /// Why another object has the say over this model on this node.
    pub yields: Option<&'a str>,
    /// Whether it comes with a login at the registry, which nodes can't use.
    pub has_login: bool,
    /// From where it comes.
    pub source: Source<'a>,
}

impl Wish<'_> {
    /// Whether a digest is what is wanted.
    fn is_met_by(&self, held: &str) -> bool {
        let target = match self.source {
            Source::Mirror { target, .. } => target,
            Source::Direct { .. } => None,
        };
        match (self.pin, target) {
            (Some(pin), Some(target)) if pin == target.upstream_digest => held == target.digest,
            (Some(pin), _) => held == pin,
            (None, Some(target)) if self.follow => held == target.digest,
            (None, _) => true,
        }
    }
}

/// What a pull knows of one node.
#[derive(Clone, Copy, Debug)]
pub struct NodeView<'a> {
    /// Why the node can't be used now; `None` when it can.
    pub unusable: Option<&'a str>,
    /// The digest under which the node lists the model.
    pub listed: Option<&'a str>,
    /// How the attempts there stand.
    pub attempt: Option<&'a Attempt>,
}

/// What to do on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Keep,
    /// Ask the mirror what the tag stands for.
    Ask,
    /// Let an attempt wait for its turn, or go on waiting.
    Start,
    /// Break off the attempt.
    Cancel,
    /// Look again then.
    WaitUntil(Timestamp),
}

/// What to do on one node and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What to do.
    pub action: Action,
    /// Where it stands.
    pub phase: NodePhase,
    /// What is wrong, if that is known.
    pub fault: Option<Fault>,
    /// For people.
    pub message: String,
}

impl Decision {
    fn new(action: Action, phase: NodePhase, message: impl Into<String>) -> Self {
        Self { action, phase, fault: None, message: message.into() }
    }

    fn failed(action: Action, fault: Fault, message: String) -> Self {
        Self { action, phase: NodePhase::Failed, fault: Some(fault), message }
    }
}

/// Decides from what is seen of a node.
pub fn decide(view: &NodeView<'_>, wish: &Wish<'_>, now: Timestamp) -> Decision {
    let held = held(view.listed, view.attempt);
    let met = held.is_some_and(|held| wish.is_met_by(held));
    let is_open = view.attempt.is_some_and(Attempt::is_open);
    if let Some((fault, message)) = refusal(held, wish).filter(|_| !met) {
        return Decision::failed(if is_open { Action::Cancel } else { Action::Keep }, fault, message);
    }
    if let Some(attempt) = view.attempt.filter(|attempt| attempt.is_open()) {
        return open(attempt, met, wish, view);
    }
    if met {
        return refreshed(view, wish, now);
    }
    if wish.suspended {
        return Decision::new(Action::Keep, NodePhase::Pending, "held by spec.suspend");
    }
    begin(view, wish, now)
}

/// While an attempt waits or is under way.
fn open(attempt: &Attempt, met: bool, wish: &Wish<'_>, view: &NodeView<'_>) -> Decision {
    if wish.suspended {
        let (phase, message) = if met { (NodePhase::Ready, "") } else { (NodePhase::Pending, "held by spec.suspend") };
        return Decision::new(Action::Cancel, phase, message);
    }
    let arriving = matches!(&attempt.stage, Stage::Running(progress) if progress.arrived() > 0);
    // Asked again only to see whether something changed: nothing has so far.
    if met && !arriving {
        return Decision::new(Action::Keep, NodePhase::Ready, attempt.bypass.clone().unwrap_or_default());
    }
    match (&attempt.stage, &attempt.failure) {
        // As long as nothing is better than before, people see why it failed.
        (stage, Some(failure)) if !arriving => {
            let action = if matches!(stage, Stage::Queued(_)) { Action::Start } else { Action::Keep };
            Decision::failed(action, failure.fault, failure.sentence())
        }
        (Stage::Queued(_), _) if view.unusable.is_some() => {
            let why = view.unusable.unwrap_or_default();
            Decision::new(Action::Cancel, NodePhase::Pending, format!("the node is not ready: {why}"))
        }
        (Stage::Queued(hold), _) => Decision::new(Action::Start, NodePhase::Pending, hold.message()),
        _ => Decision::new(Action::Keep, NodePhase::Pulling, attempt.bypass.clone().unwrap_or_default()),
    }
}

/// The node has what is wanted: at most it is asked again.
fn refreshed(view: &NodeView<'_>, wish: &Wish<'_>, now: Timestamp) -> Decision {
    let bypass = view.attempt.and_then(|attempt| attempt.bypass.clone()).unwrap_or_default();
    let keep = Decision::new(Action::Keep, NodePhase::Ready, bypass);
    let due = matches!(wish.source, Source::Direct { due: true }) && wish.follow && wish.pin.is_none();
    if !due || wish.suspended || view.unusable.is_some() || wish.yields.is_some() {
        return keep;
    }
    match view.attempt.and_then(|attempt| attempt.failure.as_ref()) {
        Some(failure) if now < failure.retry_at => Decision { action: Action::WaitUntil(failure.retry_at), ..keep },
        _ => Decision { action: Action::Start, ..keep },
    }
}

/// What isn't done at all.
fn refusal(held: Option<&str>, wish: &Wish<'_>) -> Option<(Fault, String)> {
    if let Some(why) = wish.yields {
        return Some((Fault::Conflict, format!("{why}: {}", Fault::Conflict.advice())));
    }
    if matches!(wish.source, Source::Mirror { .. }) {
        return None;
    }
    if wish.has_login {
        let message = "spec.pullSecret needs a mirror, because nodes have no way to log in at a registry: run one, or pull \
                       from where no login is needed";
        return Some((Fault::NeedsMirror, message.into()));
    }
    let pin = wish.pin?;
    let message = match held {
        Some(held) => format!(
            "the node has {held}, the pin is {pin}: a pinned pull needs a mirror, or the tag would be overwritten unverified"
        ),
        None => "a pinned pull needs a mirror, or the tag would be stored unverified: pull without digest first".into(),
    };
    Some((Fault::NeedsMirror, message))
}

/// Something is to be pulled, as soon as that is possible.
fn begin(view: &NodeView<'_>, wish: &Wish<'_>, now: Timestamp) -> Decision {
    let own = view.attempt.and_then(|attempt| attempt.failure.as_ref());
    let asked = match wish.source {
        Source::Mirror { failure, .. } => failure,
        Source::Direct { .. } => None,
    };
    if let Some(failure) = [asked, own].into_iter().flatten().find(|failure| now < failure.retry_at) {
        return Decision::failed(Action::WaitUntil(failure.retry_at), failure.fault, failure.sentence());
    }
    if let Some(why) = view.unusable {
        return Decision::new(Action::Keep, NodePhase::Pending, format!("the node is not ready: {why}"));
    }
    let action = match wish.source {
        Source::Mirror { granted: false, .. } => Action::Ask,
        _ => Action::Start,
    };
    match asked.or(own) {
        Some(failure) => Decision::failed(action, failure.fault, failure.sentence()),
        None if action == Action::Ask => {
            Decision::new(action, NodePhase::Pending, "asks the registry, through the mirror, what the tag stands for")
        }
        None => Decision::new(action, NodePhase::Pending, Hold::Turn.message()),
    }
}
