//! A model check of rollouts: random histories, and after every decision what must hold of it whatever came before.

use std::time::Duration;

use drover::domain::{
    analysis::{Batch, Copies, Criterion, Limit, Measure, Observed, Settings, Verdict},
    pull::elapsed,
    rollout::{
        AUDIT_LIMIT, Authors, Availability, Cold, Commands, Decision, HistoryEntry, Input, Outcome, Phase, Release,
        Served, Shadow, Spec, State, Step, Versions, plan, wait_for,
    },
};
use jiff::{SignedDuration, Timestamp};
use proptest::{collection::vec, prelude::*};

const VERSIONS: [&str; 4] = ["v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0"];
const GATEWAYS: usize = 2;

/// What may happen between two decisions.
#[derive(Clone, Debug)]
enum Event {
    Pass {
        seconds: i64,
    },
    Ask {
        version: usize,
    },
    Steps(Vec<Step>),
    Shadow(Option<Shadow>),
    Pause(bool),
    Approval(bool),
    MinNodes(u32),
    Nodes {
        version: usize,
        nodes: u32,
    },
    Forget {
        version: usize,
    },
    Promote(Id),
    Undo(Id),
    UndoTo {
        id: Id,
        version: usize,
    },
    Abort(Id),
    Retry(Id),
    Hold(Id),
    Report {
        gateway: usize,
        lag: i64,
    },
    Gateways {
        reachable: bool,
    },
    /// Whether the canary is compared.
    Analyse(bool),
    /// Somebody looks at what the gateways counted.
    Count {
        attempts: u64,
        failures: u64,
    },
    /// A gateway stops sending requests to the canary.
    Brake,
    Spend {
        cost: u64,
    },
    /// The process dies between decision and write.
    Crash,
    /// The decision is made on an older state: its write is refused.
    Stale,
}

/// Which rollout a command names.
#[derive(Clone, Copy, Debug)]
enum Id {
    Current,
    Earlier,
    Nonsense,
    Withdrawn,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // As the schema has it: each weight above the one before.
    vec((1..=99u8, 1..300u64), 0..4).prop_map(|mut steps| {
        steps.sort_unstable();
        steps.dedup_by_key(|(weight, _)| *weight);
        steps.into_iter().map(|(weight, seconds)| Step { weight, duration: Duration::from_secs(seconds) }).collect()
    })
}

fn shadow() -> impl Strategy<Value = Option<Shadow>> {
    let shadow = |(share, seconds)| Shadow { share, duration: Duration::from_secs(seconds), budget: 1_000_000 };
    proptest::option::of((1..=100u8, 1..300u64).prop_map(shadow))
}

fn version_index() -> impl Strategy<Value = usize> {
    0..VERSIONS.len()
}

fn id() -> impl Strategy<Value = Id> {
    prop_oneof![4 => Just(Id::Current), 2 => Just(Id::Earlier), 1 => Just(Id::Nonsense), 1 => Just(Id::Withdrawn)]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (1..400i64).prop_map(|seconds| Event::Pass { seconds }),
        1 => (-500..0i64).prop_map(|seconds| Event::Pass { seconds }),
        5 => version_index().prop_map(|version| Event::Ask { version }),
        1 => steps().prop_map(Event::Steps),
        2 => shadow().prop_map(Event::Shadow),
        1 => any::<bool>().prop_map(Event::Pause),
        1 => any::<bool>().prop_map(Event::Approval),
        1 => (0..4u32).prop_map(Event::MinNodes),
        4 => (version_index(), 0..5u32).prop_map(|(version, nodes)| Event::Nodes { version, nodes }),
        1 => version_index().prop_map(|version| Event::Forget { version }),
        3 => id().prop_map(Event::Promote),
        2 => id().prop_map(Event::Undo),
        2 => (id(), version_index()).prop_map(|(id, version)| Event::UndoTo { id, version }),
        1 => id().prop_map(Event::Abort),
        2 => id().prop_map(Event::Retry),
        1 => id().prop_map(Event::Hold),
        4 => (0..GATEWAYS, 0..3i64).prop_map(|(gateway, lag)| Event::Report { gateway, lag }),
        1 => any::<bool>().prop_map(|reachable| Event::Gateways { reachable }),
        1 => any::<bool>().prop_map(Event::Analyse),
        4 => (1..60u64, 0..3u64).prop_map(|(attempts, failures)| Event::Count { attempts, failures }),
        1 => Just(Event::Brake),
        1 => (0..2_000_000u64).prop_map(|cost| Event::Spend { cost }),
        1 => Just(Event::Crash),
        1 => Just(Event::Stale),
    ]
}

pub struct World {
    spec: Spec,
    pub state: State,
    /// The state before the last write, for stale reads.
    earlier: State,
    versions: Versions,
    pub commands: Commands,
    served: Vec<Served>,
    reachable: bool,
    batch: Option<Batch>,
    braked: bool,
    copies: Option<Copies>,
    /// The canary's requests that were counted in a step, by when the step began.
    counted: (Timestamp, u64),
    now: Timestamp,
    decisions: usize,
}

fn authors() -> Authors {
    let name = |name: &str| Some(name.to_owned());
    Authors {
        version: name("git"),
        paused: name("git"),
        promote: name("promoter"),
        undo: name("undoer"),
        abort: name("aborter"),
        retry: name("retrier"),
        pause: name("holder"),
    }
}

fn release(version: &str) -> Release {
    Release { version: version.into(), tag: format!("bot:{version}"), digest: format!("sha256:{version}") }
}

fn available(version: &str, nodes: u32) -> Availability {
    Availability { release: Some(release(version)), nodes, message: String::new() }
}

fn step(weight: u8, seconds: u64) -> Step {
    Step { weight, duration: Duration::from_secs(seconds) }
}

fn analysis() -> Settings {
    let criterion = |measure, limit| Criterion { measure, limit, dry_run: false };
    let criteria =
        vec![criterion(Measure::ErrorRate, Limit::Increase(0.02)), criterion(Measure::LatencyP95, Limit::Ratio(1.2))];
    Settings {
        interval: Duration::from_secs(30),
        min_requests: 50,
        criteria,
        queries: Vec::new(),
        failure_limit: 2,
        consecutive_successes: 1,
        parts: 1,
    }
}

impl World {
    fn new() -> Self {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        Self {
            spec: Spec {
                version: VERSIONS[0].into(),
                steps: vec![step(20, 60), step(50, 120)],
                shadow: None,
                require_approval: false,
                analysis: None,
                paused: false,
                min_nodes: 1,
                id_prefix: "abc".into(),
            },
            state: State::default(),
            earlier: State::default(),
            versions: VERSIONS.iter().map(|version| ((*version).to_owned(), available(version, 2))).collect(),
            commands: Commands::default(),
            served: vec![Served { revision: 0, since: now }; GATEWAYS],
            reachable: true,
            batch: None,
            braked: false,
            copies: None,
            counted: (now, 0),
            now,
            decisions: 0,
        }
    }

    fn decide_on(&self, state: &State) -> Decision {
        plan(&Input {
            spec: &self.spec,
            state,
            versions: &self.versions,
            commands: &self.commands,
            authors: &authors(),
            served: self.reachable.then_some(self.served.as_slice()),
            batch: self.batch.as_ref(),
            braked: self.braked,
            copies: self.copies,
            now: self.now,
        })
    }

    /// One decision, written, and everything that must hold of it.
    pub fn decide(&mut self) -> Decision {
        let decision = self.decide_on(&self.state);
        self.count();
        self.check(&self.state, &decision);
        self.decisions += 1;
        (self.batch, self.braked, self.copies) = (None, false, None);
        self.earlier = std::mem::replace(&mut self.state, decision.state.clone());
        decision
    }

    /// What the batch adds to the requests that were counted in the present step.
    fn count(&mut self) {
        let Some(canary) = &self.state.canary else { return };
        if self.counted.0 != canary.step_started_at {
            self.counted = (canary.step_started_at, 0);
        }
        self.counted.1 += self.batch.as_ref().map_or(0, |batch| batch.canary.attempts);
    }

    fn measure(&mut self, stable: [u64; 2], canary: [u64; 2]) {
        let observed = |[attempts, failures]: [u64; 2]| Observed { attempts, failures, ..Observed::default() };
        let (rollout_id, at) = (self.state.rollout_id.clone(), self.now);
        self.batch =
            Some(Batch { rollout_id, at, stable: observed(stable), canary: observed(canary), ..Batch::default() });
    }

    fn pass(&mut self, seconds: i64) {
        self.now = self.now.saturating_add(SignedDuration::from_secs(seconds)).expect("in range");
    }

    fn id(&self, id: Id) -> Option<String> {
        let current = &self.state.rollout_id;
        let number: u64 = current.rsplit_once('-').and_then(|(_, n)| n.parse().ok()).unwrap_or(0);
        match id {
            Id::Current => Some(current.clone()),
            Id::Earlier => Some(format!("abc-{}", number.saturating_sub(1))),
            Id::Nonsense => Some("other-99".into()),
            Id::Withdrawn => None,
        }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Pass { seconds } => self.pass(*seconds),
            Event::Ask { version } => self.spec.version = VERSIONS[*version].into(),
            Event::Steps(steps) => self.spec.steps.clone_from(steps),
            Event::Shadow(shadow) => self.spec.shadow = *shadow,
            Event::Pause(paused) => self.spec.paused = *paused,
            Event::Approval(wanted) => self.spec.require_approval = *wanted,
            Event::MinNodes(nodes) => self.spec.min_nodes = *nodes,
            Event::Nodes { version, nodes } => {
                self.versions.insert(VERSIONS[*version].into(), available(VERSIONS[*version], *nodes));
            }
            Event::Forget { version } => {
                let gone = Availability { release: None, nodes: 0, message: "not resolved".into() };
                self.versions.insert(VERSIONS[*version].into(), gone);
            }
            Event::Promote(id) => {
                let step = self.state.canary.as_ref().map_or("0".into(), |canary| canary.step_name());
                self.commands.promote = self.id(*id).map(|id| format!("{id}/{step}"));
            }
            Event::Undo(id) => self.commands.undo = self.id(*id),
            Event::UndoTo { id, version } => {
                self.commands.undo = self.id(*id).map(|id| format!("{id}/{}", VERSIONS[*version]));
            }
            Event::Abort(id) => self.commands.abort = self.id(*id),
            Event::Hold(id) => self.commands.pause = self.id(*id),
            Event::Retry(id) => self.commands.retry = self.id(*id),
            Event::Report { gateway, lag } => {
                let (revision, now) = ((self.state.revision - lag).max(0), self.now);
                let served = &mut self.served[*gateway];
                if served.revision < revision {
                    *served = Served { revision, since: now };
                }
            }
            Event::Gateways { reachable } => self.reachable = *reachable,
            Event::Analyse(wanted) => self.spec.analysis = wanted.then(analysis),
            Event::Count { attempts, failures } => {
                self.measure([4 * attempts, 0], [*attempts, *failures.min(attempts)]);
            }
            Event::Brake => self.braked = true,
            Event::Spend { cost } => {
                let mut copies = Copies::default();
                copies.add(*cost, 1_000_000);
                self.copies = Some(copies);
            }
            Event::Crash => drop(self.decide_on(&self.state)),
            Event::Stale => {
                // The API server refuses the write, because the object has moved on; nothing else happens.
                drop(self.decide_on(&self.earlier));
            }
        }
        if !matches!(event, Event::Crash | Event::Stale) {
            self.decide();
        }
    }

    fn nodes(&self, version: &str) -> u32 {
        self.versions.get(version).map_or(0, |availability| availability.nodes)
    }

    fn can_begin(&self, version: &str) -> bool {
        let known = self.versions.get(version).is_some_and(|availability| availability.release.is_some());
        known && self.nodes(version) >= self.spec.min_nodes.max(1)
    }

    fn check(&self, before: &State, decision: &Decision) {
        let after = &decision.state;
        self.weights(before, after);
        self.rises_only_on_time_or_on_command(before, after);
        self.new_sides_are_available(before, after);
        self.nothing_rejected_is_tried_again(before, after);
        self.previous_is_neither_live_nor_rejected(after);
        self.commands_do_what_they_say(before, decision);
        self.revision_follows_what_is_served(before, after);
        self.the_rollback_is_timed_truthfully(before, after);
        self.the_audit_says_what_happened_once(before, decision);
        self.deciding_again_changes_nothing(decision);
        assert!(after.history.len() <= 10);
        assert!(decision.notices.iter().all(|notice| !notice.message.is_empty()));
        let ready = decision.findings.iter().filter(|finding| finding.type_ == "Ready").count();
        assert_eq!(ready, 1, "Ready is always there, once");
    }

    fn weights(&self, before: &State, after: &State) {
        let stable = after.stable.as_ref().map(|side| side.weight);
        let canary = after.canary.as_ref().map_or(0, |canary| canary.weight);
        match stable {
            Some(stable) => assert_eq!(u32::from(stable) + u32::from(canary), 100, "weights of {after:?}"),
            None => assert!(after.canary.is_none(), "a canary beside nothing: {after:?}"),
        }
        let kept = before.canary.as_ref().map(|canary| (&canary.release, canary.weight));
        if let Some(canary) = &after.canary {
            assert_ne!(after.stable_version(), after.canary_version());
            assert_eq!(canary.weight == 0, canary.shadow.is_some(), "copies or requests: {canary:?}");
            assert!((0..100).contains(&canary.weight));
            let same = before.canary.as_ref().filter(|before| before.release == canary.release);
            let had_requests = same.is_some_and(|before| before.shadow.is_none());
            assert!(canary.shadow.is_none() || !had_requests, "from requests back to copies: {before:?}");
            if canary.shadow.is_some() && kept != Some((&canary.release, 0)) {
                assert_eq!(canary.shadow, self.spec.shadow.map(|shadow| shadow.share));
                return;
            }
            let is_kept = kept == Some((&canary.release, canary.weight));
            let step = self.spec.steps.get(canary.step as usize);
            assert!(is_kept || step.is_some_and(|step| step.weight == canary.weight), "{canary:?} of {:?}", self.spec);
        }
    }

    fn share(state: &State, version: &str) -> u8 {
        let canary = state.canary.as_ref().filter(|canary| canary.release.version == version);
        let stable = state.stable.as_ref().filter(|side| side.release.version == version);
        canary.map_or(0, |canary| canary.weight) + stable.map_or(0, |side| side.weight)
    }

    fn rises_only_on_time_or_on_command(&self, before: &State, after: &State) {
        let Some(canary) = &before.canary else { return };
        let version = &canary.release.version;
        if Self::share(after, version) <= canary.weight {
            return;
        }
        assert!(!self.spec.paused, "rose while paused");
        assert!(self.commands.pause.as_ref() != Some(&before.rollout_id), "rose while held");
        assert!(self.nodes(version) >= self.spec.min_nodes.max(1), "rose with too few nodes");
        assert_eq!(&self.spec.version, version, "rose though not asked for");
        let command = format!("{}/{}", before.rollout_id, canary.step_name());
        let promoted = self.commands.promote.as_ref() == Some(&command);
        assert!(!promoted || before.handled.promote.as_ref() != Some(&command), "one promotion counted twice");
        let held = elapsed(canary.step_started_at, self.now);
        let due = held >= self.duration_of(before);
        let unwanted = canary.shadow.is_some() && self.spec.shadow.is_none();
        assert!(promoted || (due && !self.spec.require_approval), "rose after {held:?} without a promotion");
        let wanted = self.spec.analysis.as_ref().map_or(0, |analysis| u64::from(analysis.min_requests));
        assert!(promoted || unwanted || self.counted.1 >= wanted, "rose after {} of {wanted} requests", self.counted.1);
        assert!(!self.braked, "rose though a gateway sends no more requests to it");
    }

    /// How long the canary's step is held at least.
    fn duration_of(&self, state: &State) -> Duration {
        let Some(canary) = &state.canary else { return Duration::ZERO };
        let own_step = self.spec.steps.iter().find(|step| step.weight == canary.weight).map(|step| step.duration);
        let copies = self.spec.shadow.filter(|_| canary.shadow.is_some()).map(|shadow| shadow.duration);
        copies.or(own_step).unwrap_or_default()
    }

    fn new_sides_are_available(&self, before: &State, after: &State) {
        let fresh = |version: Option<&str>, earlier: Option<&str>| {
            version
                .filter(|version| Some(*version) != earlier && Some(*version) != before.canary_version())
                .map(str::to_owned)
        };
        if let Some(version) = fresh(after.canary_version(), before.canary_version()) {
            assert!(self.can_begin(&version), "{version} became a canary without being available");
            assert!(!self.spec.paused, "a canary began while paused");
        }
        if let Some(version) = fresh(after.stable_version(), before.stable_version()) {
            let went_back = after.handled.undo != before.handled.undo;
            let usable = self.nodes(&version) > 0;
            assert!(
                usable && (went_back || self.can_begin(&version)),
                "{version} became stable without being available"
            );
            let in_history = |e: &HistoryEntry| e.release.version == version && e.outcome == Outcome::Deployed;
            let was_live = before.history.iter().any(in_history)
                || before.previous.as_ref().is_some_and(|previous| previous.version == version);
            let at_once = before.stable.is_none() || self.spec.steps.is_empty();
            let named =
                went_back && self.commands.undo.as_ref().is_some_and(|undo| undo.ends_with(&format!("/{version}")));
            let known = was_live || named;
            assert!(at_once || known, "{version} took all requests at once, and was never live before");
            assert!(!self.spec.paused || before.stable.is_none() || known, "switched while paused");
        }
    }

    fn nothing_rejected_is_tried_again(&self, before: &State, after: &State) {
        let Some(rejected) = &before.rejected else { return };
        if self.spec.version != rejected.version {
            return;
        }
        let retried = self.commands.retry.as_ref() == Some(&before.rollout_id)
            && before.handled.retry.as_ref() != Some(&before.rollout_id);
        // An undo of something else may bring back what was rejected only by making it what serves.
        assert!(
            retried || Self::share(after, &rejected.version) == 0,
            "{} was tried again by itself",
            rejected.version
        );
    }

    fn previous_is_neither_live_nor_rejected(&self, after: &State) {
        let Some(previous) = &after.previous else { return };
        assert_ne!(Some(previous.version.as_str()), after.stable_version(), "previous is what serves");
        let rejected = after.rejected.as_ref().map(|rejected| rejected.version.as_str());
        assert_ne!(Some(previous.version.as_str()), rejected, "previous is what was taken back");
        let failing = after
            .last_rollback
            .as_ref()
            .filter(|rollback| rollback.effective_at.is_none() && rollback.revision == after.revision);
        assert_ne!(Some(&previous.version), failing.map(|rollback| &rollback.from), "previous is what just failed");
    }

    fn commands_do_what_they_say(&self, before: &State, decision: &Decision) {
        let after = &decision.state;
        let is_open = |command: &Option<String>, handled: &Option<String>| {
            command.as_ref() == Some(&before.rollout_id) && command != handled
        };
        if let Some((_, version)) = self.commands.undo.as_ref().and_then(|undo| undo.split_once('/')) {
            self.a_named_undo_goes_there_or_nowhere(before, decision, version);
        } else if is_open(&self.commands.undo, &before.handled.undo) {
            if before.canary.is_some() {
                assert!(after.canary.is_none(), "undo left the canary");
                assert_eq!(after.stable_version(), before.stable_version());
            } else if let Some(previous) = before.previous.as_ref().filter(|p| self.nodes(&p.version) > 0) {
                assert_eq!(after.stable_version(), Some(previous.version.as_str()), "undo did not go back");
                assert!(after.canary.is_none());
            }
        } else {
            assert_eq!(after.handled.undo, before.handled.undo, "a stale undo was carried out");
            let undone = decision.notices.iter().any(|notice| notice.message.contains("undone"));
            assert!(!undone, "a stale undo did something");
        }
        if is_open(&self.commands.abort, &before.handled.abort) && before.canary.is_some() {
            assert!(after.canary.is_none(), "abort left the canary");
        }
        if !is_open(&self.commands.retry, &before.handled.retry) {
            assert_eq!(after.handled.retry, before.handled.retry, "a stale retry was carried out");
            assert!(decision.notices.iter().all(|notice| notice.reason != "Retrying"));
        }
    }

    /// An undo to a version that was named, whichever one it is.
    fn a_named_undo_goes_there_or_nowhere(&self, before: &State, decision: &Decision, version: &str) {
        let (after, undo) = (&decision.state, self.commands.undo.as_ref());
        let names =
            |undo: &String| undo.split_once('/').is_some_and(|(id, _)| !id.is_empty() && id == before.rollout_id);
        let meant = undo.is_some_and(names);
        if !meant || undo == before.handled.undo.as_ref() {
            assert_eq!(after.handled.undo, before.handled.undo, "a stale undo was carried out");
            return;
        }
        if after.handled.undo == before.handled.undo {
            assert_eq!(self.nodes(version), 0, "an undo to {version} waits for nothing");
            return;
        }
        if decision.notices.iter().any(|notice| notice.reason == "NothingToUndo") {
            let rejected = before.rejected.as_ref().is_some_and(|rejected| rejected.version == version);
            let last = before.history.iter().find(|entry| entry.release.version == version);
            let taken_back = last.is_some_and(|entry| entry.outcome == Outcome::RolledBack);
            let is_on = before.canary_version() == Some(version)
                || (before.canary.is_none() && before.stable_version() == Some(version));
            let registered = self.versions.get(version).and_then(|found| found.release.as_ref());
            let is_unknown = registered.is_none_or(|registered| *registered != release(version));
            let never_served = last.is_none() && before.stable_version().is_none_or(|stable| stable < version);
            assert!(rejected || taken_back || is_on || is_unknown || never_served, "no undo to {version}: {before:?}");
            return;
        }
        assert_eq!(after.stable_version(), Some(version), "an undo went elsewhere");
        assert!(after.canary.is_none(), "an undo left a canary");
        assert!(self.nodes(version) > 0 || before.stable_version() == Some(version), "an undo was an outage");
        let rejected = before.rejected.as_ref().map(|rejected| rejected.version.as_str());
        assert_ne!(rejected, Some(version), "an undo brought back what was rejected");
    }

    fn the_audit_says_what_happened_once(&self, before: &State, decision: &Decision) {
        let after = &decision.state;
        let last = |state: &State| state.audit.first().map_or(0, |entry| entry.number);
        let new: Vec<_> = after.audit.iter().filter(|entry| entry.number > last(before)).collect();
        let said: Vec<_> = decision.notices.iter().rev().map(|notice| (&*notice.message, &*notice.by)).collect();
        let noted: Vec<_> = new.iter().map(|entry| (&*entry.message, &*entry.by)).collect();
        assert_eq!(noted, said, "the audit differs from what happened");
        assert!(after.audit.len() <= AUDIT_LIMIT);
        assert!(after.audit.windows(2).all(|pair| pair[0].number == pair[1].number + 1), "a gap in the audit");
        assert!(new.iter().all(|entry| !entry.by.is_empty() && !entry.version.is_empty() && entry.at == self.now));
        let served = |state: &State| (state.stable.clone(), state.canary_version().map(str::to_owned));
        assert!(served(before) == served(after) || !new.is_empty(), "what serves changed, and nothing was noted");
    }

    fn revision_follows_what_is_served(&self, before: &State, after: &State) {
        let canary = |state: &State| state.canary.as_ref().map(|c| (c.release.clone(), c.weight, c.shadow));
        let changed = before.stable != after.stable || canary(before) != canary(after);
        assert_eq!(after.revision, before.revision + i64::from(changed));
    }

    fn the_rollback_is_timed_truthfully(&self, before: &State, after: &State) {
        let Some(rollback) = &after.last_rollback else { return };
        assert!(rollback.revision > 0 && rollback.revision <= after.revision);
        let Some(effective) = rollback.effective_at else { return };
        assert!(effective >= rollback.decided_at, "effective before it was decided");
        if before.last_rollback.as_ref() == Some(rollback) {
            return;
        }
        assert!(self.reachable && !self.served.is_empty(), "called effective though a gateway couldn't be asked");
        assert!(self.served.iter().all(|gateway| gateway.revision >= rollback.revision), "a gateway lags behind");
        assert!(self.served.iter().all(|gateway| gateway.since <= effective));
    }

    fn deciding_again_changes_nothing(&self, decision: &Decision) {
        let undone = decision.state.handled.undo != self.state.handled.undo;
        let again = self.decide_on(&decision.state);
        if undone && self.has_more_to_do(&decision.state) {
            // What was undone is not what spec.version asks for: the next decision begins that.
            return;
        }
        assert_eq!(again.state, decision.state, "the second decision differs");
        assert_eq!((again.phase, &again.findings), (decision.phase, &decision.findings));
        assert!(again.notices.is_empty(), "said twice: {:?}", again.notices);
    }

    fn has_more_to_do(&self, state: &State) -> bool {
        let target = self.spec.version.as_str();
        state.rejected.as_ref().is_none_or(|rejected| rejected.version != target)
            && state.stable_version() != Some(target)
    }

    /// Every gateway has taken up what was decided.
    pub fn served_by_all(&mut self) {
        let (revision, now) = (self.state.revision, self.now);
        for gateway in self.served.iter_mut().filter(|gateway| gateway.revision < revision) {
            *gateway = Served { revision, since: now };
        }
    }

    /// Everything is well and time passes: what comes of it in the end.
    fn settle(&mut self) -> Decision {
        self.reachable = true;
        for version in VERSIONS {
            self.versions.insert(version.into(), available(version, 9));
        }
        let mut decision = self.decide();
        for _ in 0..20 {
            self.pass(300);
            self.served_by_all();
            self.measure([240, 0], [60, 0]);
            decision = self.decide();
        }
        decision
    }

    fn check_end(&mut self) {
        let last_canary = self.state.clone();
        let decision = self.settle();
        let state = &decision.state;
        let target = self.spec.version.as_str();
        let rejected = state.rejected.as_ref().is_some_and(|rejected| rejected.version == target);
        let waits = self.spec.paused || state.paused || (self.spec.require_approval && state.canary.is_some());
        let served = state.stable_version() == Some(target) && state.canary.is_none();
        assert!(served || rejected || waits, "never arrived at {target}: {last_canary:?} became {state:?}");
        let pending = state.last_rollback.as_ref().is_some_and(|rollback| rollback.effective_at.is_none());
        assert!(!pending, "a rollback that every gateway serves is still called pending");
        assert!(!served || decision.phase == Phase::Healthy, "{:?}", decision.phase);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_decision_of_every_history_keeps_the_promises(events in vec(event(), 1..120)) {
        let mut world = World::new();
        for event in &events {
            world.apply(event);
        }
        world.check_end();
    }

    #[test]
    fn a_wake_up_is_asked_for_while_time_alone_decides(events in vec(event(), 1..60)) {
        let mut world = World::new();
        for event in &events {
            world.apply(event);
        }
        world.commands = Commands::default();
        let decision = world.decide_on(&world.state);
        let Some(canary) = &decision.state.canary else { return Ok(()) };
        let held_by_time = !world.spec.paused
            && world.nodes(&canary.release.version) >= world.spec.min_nodes.max(1)
            && canary.release.version == world.spec.version
            && elapsed(canary.step_started_at, world.now) < world.duration_of(&decision.state);
        if held_by_time {
            prop_assert!(decision.wake_after.is_some());
        }
        let durations = world.spec.steps.iter().map(|step| step.duration);
        let longest = durations.chain(world.spec.shadow.map(|shadow| shadow.duration)).max();
        let longest = longest.unwrap_or_default().max(WITHOUT_NODE);
        prop_assert!(decision.wake_after.is_none_or(|wait| wait <= longest));
    }
}

/// How long a canary may be without a node.
const WITHOUT_NODE: Duration = Duration::from_secs(30);

#[test]
fn a_held_canary_stays_at_its_step_until_it_is_let_go_and_the_next_one_is_not_held() {
    let mut world = with_canary("v1.1.0");
    world.commands.pause = Some(world.state.rollout_id.clone());
    let held = world.decide();
    assert_eq!(held.phase, Phase::Paused);
    assert_eq!((held.notices[0].reason, &*held.notices[0].by), ("Paused", "holder"));
    world.pass(1000);
    assert!(world.decide().notices.is_empty());
    assert_eq!(World::share(&world.state, "v1.1.0"), 20);
    world.commands.pause = Some(String::new());
    let on = world.decide();
    let said: Vec<_> = on.notices.iter().map(|notice| (notice.reason, &*notice.by)).collect();
    assert_eq!(said, [("StepStarted", "drover"), ("Resumed", "holder")]);
    world.commands.pause = Some(world.state.rollout_id.clone());
    world.decide();
    world.spec.version = "v1.2.0".into();
    assert_eq!(world.decide().phase, Phase::Progressing);
}

#[test]
fn an_abort_calls_the_canary_off_and_leaves_what_went_live_meanwhile() {
    let mut world = with_canary("v1.1.0");
    world.commands.abort = Some(world.state.rollout_id.clone());
    let decision = world.decide();
    assert_eq!((world.state.stable_version(), world.state.canary_version()), (Some("v1.0.0"), None));
    assert_eq!(&*decision.notices[0].by, "aborter");

    let mut late = with_canary("v1.1.0");
    let meant = late.state.rollout_id.clone();
    serving("v1.1.0", &mut late);
    late.commands.abort = Some(meant);
    assert_eq!(late.decide().notices[0].reason, "NothingToAbort");
    assert_eq!(late.state.stable_version(), Some("v1.1.0"));
}

#[test]
fn an_undo_goes_to_the_version_it_names_also_past_a_canary_and_says_both() {
    let mut world = with_canary("v1.1.0");
    serving("v1.1.0", &mut world);
    world.spec.version = "v1.2.0".into();
    world.decide();
    let meant = world.state.rollout_id.clone();
    world.commands.undo = Some(format!("{meant}/v1.0.0"));
    world.decide();
    assert_eq!((world.state.stable_version(), World::share(&world.state, "v1.0.0")), (Some("v1.0.0"), 100));
    let past: Vec<_> = world.state.history.iter().take(3).map(|e| (&*e.release.version, e.outcome, &*e.by)).collect();
    let expected = [
        ("v1.0.0", Outcome::Deployed, "undoer"),
        ("v1.1.0", Outcome::RolledBack, "undoer"),
        ("v1.2.0", Outcome::RolledBack, "undoer"),
    ];
    assert_eq!(past, expected);
    assert_eq!(world.state.history[0].from.as_deref(), Some("v1.1.0"));
    assert_eq!(world.state.history[1].to.as_deref(), Some("v1.0.0"));
    // What was meant for the rollout before, in Git say, is not carried out after it.
    world.commands.undo = Some(meant);
    world.decide();
    assert_eq!(world.state.stable_version(), Some("v1.0.0"));
}

#[test]
fn an_undo_says_why_it_does_not_go_to_the_version_it_names() {
    let mut world = with_canary("v1.1.0");
    serving("v1.1.0", &mut world);
    world.spec.version = "v1.2.0".into();
    world.decide();
    world.commands.undo = Some(world.state.rollout_id.clone());
    world.decide();
    let why = |version: &str, world: &mut World| {
        world.commands.undo = Some(format!("{}/{version}", world.state.rollout_id));
        let decision = world.decide();
        assert_eq!(decision.notices[0].reason, "NothingToUndo");
        decision.notices[0].message.clone()
    };
    let taken_back = "v1.2.0 was taken back: undone by drover rollout undo; `drover rollout retry` tries it again";
    assert_eq!(why("v1.2.0", &mut world), taken_back);
    assert_eq!(why("v1.1.0", &mut world), "v1.1.0 has all requests already");
    assert_eq!(why("v1.3.0", &mut world), "v1.3.0 has never served: ask for it by spec.version");
    world.spec.version = "v1.1.0".into();
    world.decide();
    let taken_back = "v1.2.0 was taken back: undone by drover rollout undo; ask for it by spec.version";
    assert_eq!(why("v1.2.0", &mut world), taken_back);
    assert!(why("v9.0.0", &mut world).starts_with("there is no ModelVersion v9.0.0"));
    world.versions.get_mut("v1.0.0").and_then(|v| v.release.as_mut()).expect("known").digest = "sha256:other".into();
    assert!(why("v1.0.0", &mut world).contains("registered anew"));
}

/// A world where v1.0.0 serves and `version` is a canary at its first step.
pub fn with_canary(version: &str) -> World {
    let mut world = World::new();
    world.decide();
    assert_eq!(world.state.stable_version(), Some("v1.0.0"));
    world.spec.version = version.into();
    world.decide();
    assert_eq!(world.state.canary_version(), Some(version));
    world
}

fn serving(version: &str, world: &mut World) {
    world.spec.version = version.into();
    for _ in 0..4 {
        world.decide();
        world.pass(1000);
    }
    assert_eq!((world.state.stable_version(), world.state.canary_version()), (Some(version), None));
}

#[test]
fn the_steps_are_walked_in_order_each_for_its_time() {
    let mut world = with_canary("v1.1.0");
    let mut seen = Vec::new();
    for _ in 0..30 {
        seen.push(World::share(&world.state, "v1.1.0"));
        world.pass(10);
        world.decide();
    }
    let count = |weight| seen.iter().filter(|seen| **seen == weight).count();
    assert_eq!((count(20), count(50), count(100)), (6, 12, 12), "{seen:?}");
}

#[test]
fn a_promotion_leaves_one_step_only_also_when_the_steps_are_edited_before_the_next_decision() {
    let mut world = with_canary("v1.1.0");
    world.spec.require_approval = true;
    world.spec.steps = vec![step(60, 60), step(80, 60)];
    world.commands.promote = Some(format!("{}/0", world.state.rollout_id));
    world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 60);
    world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 60, "the same annotation promoted twice");
    world.commands.promote = Some(format!("{}/0", world.state.rollout_id));
    world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 80, "a new promotion counts");
}

/// The same with copies of a tenth of the requests for a minute before the first step.
fn with_copies(version: &str) -> World {
    let mut world = World::new();
    world.decide();
    world.spec.version = version.into();
    world.spec.shadow = Some(Shadow { share: 10, duration: Duration::from_secs(60), budget: 1_000_000 });
    world.spec.analysis = Some(analysis());
    world.decide();
    let canary = world.state.canary.as_ref().expect("a canary");
    assert_eq!((canary.weight, canary.shadow, World::share(&world.state, "v1.0.0")), (0, Some(10), 100));
    world
}

#[test]
fn copies_come_before_the_first_step_which_begins_after_time_and_evidence() {
    let mut world = with_copies("v1.1.0");
    world.pass(100);
    let said = world.decide();
    let ready = said.findings.iter().find(|finding| finding.type_ == "Ready").expect("always there");
    assert_eq!((said.phase, ready.reason.as_str()), (Phase::Progressing, "Shadow"));
    assert!(ready.message.contains("v1.1.0 gets copies of 10 %"), "{}", ready.message);
    assert!(ready.message.contains("50 of 50 requests"), "{}", ready.message);
    world.measure([500, 0], [60, 0]);
    world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 20);
    let seen = world.state.analysis.as_ref().expect("measured");
    assert!(seen.measurements[0].shadow && !seen.shadow, "{seen:?}");
    assert_eq!((seen.requests, seen.successes), (0, 0), "the step has requests of its own");
}

#[test]
fn a_budget_that_is_spent_before_the_evidence_is_there_is_named_with_what_to_do() {
    let mut world = with_copies("v1.1.0");
    let said = |world: &mut World, costs: &[u64]| {
        let mut copies = Copies::default();
        costs.iter().for_each(|cost| copies.add(*cost, 1_000_000));
        world.copies = Some(copies);
        let ready = world.decide().findings.swap_remove(0);
        (ready.reason.clone(), ready.message)
    };
    world.pass(100);
    assert_eq!(said(&mut world, &[400_000, 1_000_000]).0, "Shadow", "both may send more");
    let (reason, message) = said(&mut world, &[400_000, 1_250_000]);
    assert_eq!(reason, "ShadowBudgetSpent");
    for part in ["copies cost 1.65 US dollars", "1 of 2 gateways", "1.00 dollars (shadowBudget)", "rollout promote"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let (again, state) = (world.decide(), world.state.clone());
    assert_eq!(
        (again.state, again.findings[0].reason.as_str()),
        (state, "ShadowBudgetSpent"),
        "nobody looked meanwhile"
    );
    assert_eq!(said(&mut world, &[400_000, 900_000]).0, "Shadow", "the budget was raised, or the gateway began anew");
    said(&mut world, &[0, 1_250_000]);
    world.measure([500, 0], [60, 0]);
    world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 20, "evidence that came all the same is enough");
    assert_eq!(world.state.analysis.as_ref().and_then(|analysis| analysis.copies), None);
}

#[test]
fn a_comparison_without_all_gateways_can_end_a_canary_and_raises_none() {
    let mut world = with_canary("v1.1.0");
    world.spec.analysis = Some(analysis());
    world.pass(100);
    let unheard = |world: &mut World, canary: [u64; 2]| {
        world.measure([400, 0], canary);
        world.batch.as_mut().expect("just measured").unheard = 1;
        world.decide()
    };
    let said = unheard(&mut world, [100, 0]);
    assert_eq!(World::share(&world.state, "v1.1.0"), 20);
    assert!(said.findings[0].message.contains("what one gateway counted is missing"), "{said:?}");
    let mut other = world.state.clone();
    world.pass(30);
    world.measure([400, 0], [100, 0]);
    world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 50, "all were asked");
    std::mem::swap(&mut world.state, &mut other);
    unheard(&mut world, [100, 60]);
    assert!(world.state.canary.is_none() && world.state.rejected.is_some(), "half of the evidence is evidence");
}

#[test]
fn copies_that_go_wrong_reject_a_version_that_never_had_a_request() {
    let mut world = with_copies("v1.1.0");
    world.measure([500, 0], [40, 20]);
    world.decide();
    assert_eq!((world.state.canary_version(), World::share(&world.state, "v1.0.0")), (None, 100));
    assert!(world.state.rejected.as_ref().is_some_and(|rejected| rejected.reason.contains("errorRate")));
}

#[test]
fn copies_are_promoted_undone_changed_and_dropped() {
    let mut world = with_copies("v1.1.0");
    world.commands.promote = Some(format!("{}/0", world.state.rollout_id));
    world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 0, "that is another step's promotion");
    world.commands.promote = Some(format!("{}/shadow", world.state.rollout_id));
    world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 20);
    world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 20);

    let mut world = with_copies("v1.1.0");
    let revision = world.state.revision;
    world.spec.shadow = Some(Shadow { share: 40, duration: Duration::from_secs(60), budget: 1_000_000 });
    world.decide();
    assert_eq!(world.state.canary.as_ref().and_then(|canary| canary.shadow), Some(40));
    assert_eq!(world.state.revision, revision + 1, "the gateways must know");
    world.commands.undo = Some(world.state.rollout_id.clone());
    world.decide();
    assert!(world.state.canary.is_none() && world.state.rejected.is_some());

    let mut world = with_copies("v1.1.0");
    world.spec.shadow = None;
    world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 20, "nobody waits for copies that nobody wants");
}

#[test]
fn a_step_is_held_while_something_speaks_against_the_canary() {
    let mut world = with_canary("v1.1.0");
    world.spec.analysis = Some(Settings { consecutive_successes: 2, ..analysis() });
    world.pass(100);
    world.measure([400, 0], [100, 0]);
    let said = world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 20);
    assert!(said.findings[0].message.contains("1 of 2 comparisons in a row"), "{said:?}");
    world.pass(30);
    world.measure([400, 4], [100, 10]);
    world.decide();
    let seen = world.state.analysis.as_ref().expect("there");
    assert_eq!((seen.measurements[0].verdict, seen.successes), (Verdict::Doubtful, 0));
    for share in [20, 50] {
        world.pass(30);
        world.measure([2000, 20], [500, 0]);
        world.decide();
        assert_eq!(World::share(&world.state, "v1.1.0"), share);
    }
}

#[test]
fn a_compared_step_is_left_after_its_requests_and_not_by_time_alone() {
    let mut world = with_canary("v1.1.0");
    world.spec.analysis = Some(analysis());
    world.pass(10_000_000);
    let said = world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 20, "time is no evidence");
    assert!(said.findings[0].message.contains("50 of 50 requests"), "{said:?}");
    world.measure([120, 1], [30, 0]);
    let said = world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 20);
    assert!(said.findings[0].message.contains("20 of 50 requests"), "{said:?}");
    world.pass(30);
    world.measure([80, 0], [20, 0]);
    world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 50, "measured, and nothing speaks against it");
    world.pass(10_000_000);
    world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 50, "each step has requests of its own");
    world.commands.promote = Some(format!("{}/1", world.state.rollout_id));
    world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 100, "a promotion needs none");
}

/// Found by the model check: the step had the same number before and after.
#[test]
fn a_step_that_was_edited_counts_its_requests_anew() {
    let mut world = with_canary("v1.1.0");
    world.spec.analysis = Some(analysis());
    world.measure([160, 0], [40, 0]);
    world.decide();
    world.spec.steps = vec![step(30, 60), step(50, 60)];
    world.commands.promote = Some(format!("{}/0", world.state.rollout_id));
    world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 30);
    world.pass(100);
    world.measure([160, 0], [40, 0]);
    world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 30);
}

#[test]
fn a_canary_that_is_worse_goes_whatever_holds_its_step() {
    let holds: [fn(&mut World); 4] = [
        |_| (),
        |world| world.spec.paused = true,
        |world| world.spec.require_approval = true,
        |world| world.spec.min_nodes = 9,
    ];
    for hold in holds {
        let mut world = with_canary("v1.1.0");
        world.spec.analysis = Some(analysis());
        hold(&mut world);
        world.measure([80, 0], [20, 0]);
        world.decide();
        world.pass(30);
        world.measure([80, 0], [20, 12]);
        world.decide();
        assert_eq!(World::share(&world.state, "v1.1.0"), 0);
        let reason = &world.state.rejected.as_ref().expect("rejected").reason;
        assert!(reason.contains("errorRate at most stable's + 2.0 %: 30.0 % of 40 attempts failed"), "{reason}");
        let seen = world.state.analysis.as_ref().expect("what it rests on");
        assert_eq!(seen.measurements[0].verdict, Verdict::Failed);
    }
}

#[test]
fn a_measure_on_trial_decides_nothing() {
    let mut world = with_canary("v1.1.0");
    let mut analysis = analysis();
    analysis.criteria[0].dry_run = true;
    world.spec.analysis = Some(analysis);
    for _ in 0..3 {
        world.pass(30);
        world.measure([80, 0], [20, 20]);
        world.decide();
    }
    assert!(World::share(&world.state, "v1.1.0") > 0);
    let seen = world.state.analysis.as_ref().expect("it is shown all the same");
    assert!(seen.metrics[0].message.contains("worse than allowed"), "{seen:?}");
}

#[test]
fn a_canary_that_a_gateway_gave_up_goes_without_an_analysis_too() {
    let mut world = with_canary("v1.1.0");
    world.braked = true;
    world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 0);
    assert!(world.state.last_rollback.is_some());
}

#[test]
fn a_canary_that_loses_its_nodes_goes_whatever_holds_its_step_unless_one_is_back_soon() {
    let holds: [fn(&mut World); 3] =
        [|_| (), |world| world.spec.paused = true, |world| world.spec.require_approval = true];
    for hold in holds {
        let mut world = with_canary("v1.1.0");
        hold(&mut world);
        world.versions.insert("v1.1.0".into(), available("v1.1.0", 0));
        assert_eq!(world.decide().wake_after, Some(WITHOUT_NODE));
        world.pass(29);
        world.versions.insert("v1.1.0".into(), available("v1.1.0", 1));
        world.decide();
        world.versions.insert("v1.1.0".into(), available("v1.1.0", 0));
        world.pass(20);
        world.decide();
        world.pass(29);
        world.decide();
        assert!(World::share(&world.state, "v1.1.0") > 0, "counted anew since it was back");
        world.pass(1);
        let decision = world.decide();
        assert_eq!((World::share(&world.state, "v1.1.0"), world.state.stable_version()), (0, Some("v1.0.0")));
        assert_eq!(world.state.rejected.as_ref().expect("rejected").reason, "no ready node holds it any more");
        assert_eq!(decision.notices.len(), 1, "{:?}", decision.notices);
    }
}

#[test]
fn a_canary_that_loses_its_nodes_together_with_stable_is_not_to_blame() {
    let mut world = with_canary("v1.1.0");
    for version in ["v1.0.0", "v1.1.0"] {
        world.versions.insert(version.into(), available(version, 0));
    }
    for _ in 0..5 {
        world.pass(60);
        world.decide();
    }
    assert_eq!(World::share(&world.state, "v1.1.0"), 20);
}

#[test]
fn a_third_version_in_the_middle_begins_at_the_first_step_with_nothing_measured() {
    let mut world = with_canary("v1.1.0");
    world.spec.analysis = Some(analysis());
    world.commands.promote = Some(format!("{}/0", world.state.rollout_id));
    world.decide();
    world.measure([80, 0], [20, 0]);
    world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 50);
    assert_eq!(world.state.analysis.as_ref().map(|analysis| analysis.requests), Some(20));
    let rollout = world.state.rollout_id.clone();
    world.spec.version = "v1.2.0".into();
    world.decide();
    let canary = world.state.canary.clone().expect("on trial");
    assert_eq!((&*canary.release.version, canary.weight, canary.step), ("v1.2.0", 20, 0));
    assert_ne!(world.state.rollout_id, rollout);
    let analysis = world.state.analysis.as_ref().expect("it is measured");
    assert_eq!((analysis.requests, analysis.measurements.len()), (0, 0));
    assert_eq!(world.state.rejected, None, "giving way is no failure");
}

#[test]
fn evidence_of_another_rollout_or_seen_before_is_none() {
    let mut world = with_canary("v1.1.0");
    world.spec.analysis = Some(analysis());
    world.measure([80, 0], [20, 20]);
    world.batch.as_mut().expect("there").rollout_id = "other-1".into();
    world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 20);
    world.pass(-10);
    world.measure([80, 0], [20, 0]);
    let batch = world.batch.clone();
    world.decide();
    world.batch = batch;
    world.decide();
    assert_eq!(world.state.analysis.as_ref().expect("there").requests, 20);
}

#[test]
fn a_step_inserted_below_does_not_shorten_the_one_that_is_held() {
    let mut world = with_canary("v1.1.0");
    world.spec.steps = vec![step(5, 1), step(20, 600), step(50, 600)];
    world.pass(100);
    world.decide();
    assert_eq!(World::share(&world.state, "v1.1.0"), 20);
}

#[test]
fn a_version_that_was_only_ever_a_canary_is_not_switched_to_at_once() {
    let mut world = with_canary("v1.2.0");
    serving("v1.2.0", &mut world);
    world.spec.version = "v1.1.0".into();
    world.decide();
    assert_eq!(world.state.canary_version(), Some("v1.1.0"), "older, but never live: it is a canary");
    world.commands.undo = Some(world.state.rollout_id.clone());
    world.decide();
    world.commands.retry = Some(world.state.rollout_id.clone());
    world.decide();
    assert_eq!((world.state.stable_version(), World::share(&world.state, "v1.1.0")), (Some("v1.2.0"), 20));
}

#[test]
fn an_older_version_that_was_live_takes_over_at_once() {
    let mut world = with_canary("v1.1.0");
    serving("v1.1.0", &mut world);
    world.spec.paused = true;
    world.spec.version = "v1.0.0".into();
    let decision = world.decide();
    assert_eq!(world.state.stable_version(), Some("v1.0.0"));
    assert_eq!(world.state.previous, None, "v1.1.0 was taken back");
    assert!(decision.notices.iter().any(|notice| notice.reason == "RolledBack" && notice.is_warning()));
}

#[test]
fn the_version_before_takes_over_at_once_also_when_the_history_has_forgotten_it() {
    let mut world = with_canary("v1.1.0");
    serving("v1.1.0", &mut world);
    world.spec.version = "v1.2.0".into();
    for _ in 0..10 {
        world.decide();
        world.commands.undo = Some(world.state.rollout_id.clone());
        world.decide();
        world.commands.retry = Some(world.state.rollout_id.clone());
    }
    assert!(world.state.history.iter().all(|entry| entry.release.version != "v1.0.0"));
    world.spec.version = "v1.0.0".into();
    world.decide();
    assert_eq!((world.state.stable_version(), world.state.canary_version()), (Some("v1.0.0"), None));
}

#[test]
fn an_undo_meant_for_what_was_set_back_since_does_nothing() {
    let mut world = with_canary("v1.1.0");
    serving("v1.1.0", &mut world);
    serving("v1.2.0", &mut world);
    let meant = world.state.rollout_id.clone();
    world.spec.version = "v1.1.0".into();
    world.decide();
    world.commands.undo = Some(meant);
    world.decide();
    assert_eq!(world.state.stable_version(), Some("v1.1.0"), "it undid more than it was meant for");
}

#[test]
fn an_undo_rejects_only_what_the_spec_asks_for() {
    let mut world = with_canary("v1.1.0");
    world.spec.version = "v1.2.0".into();
    world.versions.insert("v1.2.0".into(), available("v1.2.0", 0));
    world.commands.undo = Some(world.state.rollout_id.clone());
    world.decide();
    assert_eq!((world.state.canary_version(), &world.state.rejected), (None, &None));
}

#[test]
fn the_version_that_failed_is_not_what_the_next_undo_goes_back_to() {
    let mut world = with_canary("v1.2.0");
    serving("v1.2.0", &mut world);
    serving("v1.1.0", &mut world);
    assert_eq!(world.state.previous.as_ref().map(|previous| previous.version.as_str()), Some("v1.2.0"));
    world.spec.version = "v1.2.0".into();
    world.decide();
    world.commands.undo = Some(world.state.rollout_id.clone());
    world.decide();
    assert_eq!(world.state.rejected.as_ref().map(|rejected| rejected.version.as_str()), Some("v1.2.0"));
    assert_eq!(world.state.previous.as_ref().map(|previous| previous.version.as_str()), Some("v1.0.0"));
}

#[test]
fn an_undo_without_a_node_for_the_earlier_version_waits_for_one() {
    let mut world = with_canary("v1.1.0");
    serving("v1.1.0", &mut world);
    world.versions.insert("v1.0.0".into(), available("v1.0.0", 0));
    world.commands.undo = Some(world.state.rollout_id.clone());
    world.decide();
    assert_eq!(world.state.stable_version(), Some("v1.1.0"), "an undo must not be an outage");
    world.versions.insert("v1.0.0".into(), available("v1.0.0", 1));
    world.decide();
    assert_eq!(world.state.stable_version(), Some("v1.0.0"));
}

#[test]
fn a_retry_from_before_the_undo_does_not_defeat_it() {
    let mut world = with_canary("v1.1.0");
    serving("v1.1.0", &mut world);
    world.commands.retry = Some(world.state.rollout_id.clone());
    world.decide();
    world.commands.undo = Some(world.state.rollout_id.clone());
    world.decide();
    world.decide();
    assert_eq!((world.state.canary_version(), World::share(&world.state, "v1.0.0")), (None, 100));
}

#[test]
fn a_step_without_a_duration_still_takes_a_decision_of_its_own() {
    let mut world = World::new();
    world.spec.steps = vec![step(20, 0), step(50, 0)];
    world.decide();
    world.spec.version = "v1.1.0".into();
    let shares: Vec<u8> = (0..4)
        .map(|_| {
            world.state = world.decide_on(&world.state).state;
            World::share(&world.state, "v1.1.0")
        })
        .collect();
    assert_eq!(shares, [20, 50, 100, 100]);
}

#[test]
fn a_gateway_that_can_not_be_asked_keeps_a_rollback_pending() {
    let mut world = with_canary("v1.1.0");
    world.commands.undo = Some(world.state.rollout_id.clone());
    world.reachable = false;
    assert_eq!(world.decide().phase, Phase::RollingBack);
    let revision = world.state.revision;
    world.reachable = true;
    let late = world.now.saturating_add(SignedDuration::from_secs(2)).expect("in range");
    world.served = vec![Served { revision, since: world.now }, Served { revision: revision - 1, since: world.now }];
    assert_eq!(world.decide().phase, Phase::RollingBack, "one gateway lags behind");
    world.served[1] = Served { revision, since: late };
    world.pass(3);
    assert_eq!(world.decide().phase, Phase::Degraded);
    assert_eq!(world.state.last_rollback.as_ref().and_then(|rollback| rollback.effective_at), Some(late));
}

#[test]
fn nodes_that_have_yet_to_load_a_version_are_not_its_nodes() {
    let cold = |node: &str, failure: Option<&str>| Cold { node: node.into(), failure: failure.map(str::to_owned) };
    let held = || Availability { release: None, nodes: 3, message: String::new() };
    let mut found = held();
    assert!(!wait_for(&mut found, "v2.0.0", &[], 3), "all have loaded it");
    assert_eq!(found, held());
    assert!(!wait_for(&mut found, "v2.0.0", &[cold("a", None)], 2), "two have, and that is enough");
    assert_eq!((found.nodes, found.message.as_str()), (2, ""));
    let mut found = held();
    assert!(wait_for(&mut found, "v2.0.0", &[cold("a", None), cold("b", Some("no memory"))], 2));
    assert_eq!(found.nodes, 1);
    assert_eq!(found.message, "a, b load v2.0.0 before its first request; b could not: no memory");
    let mut found = held();
    assert!(wait_for(&mut found, "v2.0.0", &["a", "b", "c"].map(|node| cold(node, None)), 0), "one must, at least");
}
