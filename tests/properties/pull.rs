//! Progress lines, faults, and what is done on a node.

use std::time::Duration;

use drover::domain::pull::{
    Action, Answer, Asked, Attempt, Failure, Fault, Hold, Line, Lookup, NodePhase, NodeView, Phase, Progress,
    STALL_AFTER, Source, Stage, Target, Wish, decide, elapsed, held, is_worth_writing, lookup, percent, phase,
    retry_after,
};
use jiff::{SignedDuration, Timestamp};
use proptest::{collection::vec, prelude::*};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn counter() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        Just(None),
        (0..10_000i64).prop_map(Some),
        any::<i64>().prop_map(Some),
        Just(Some(i64::MAX)),
        Just(Some(i64::MIN)),
    ]
}

fn line() -> impl Strategy<Value = Line> {
    let status = prop_oneof![
        Just("pulling manifest".to_owned()),
        Just("pulling 0123456789ab".to_owned()),
        Just("verifying sha256 digest".to_owned()),
        Just("success".to_owned()),
        ".{0,8}",
    ];
    (status, prop::option::of("[a-c]"), counter(), counter()).prop_map(|(status, digest, total, completed)| Line {
        status,
        digest,
        total,
        completed,
        error: None,
    })
}

proptest! {
    #[test]
    fn whatever_a_node_says_the_numbers_make_sense(lines in vec((line(), -30..90i64), 1..60)) {
        let (mut progress, mut now) = (Progress::default(), at(1_000_000));
        for (line, seconds) in lines {
            let (before, before_total) = progress.bytes();
            now = now.saturating_add(SignedDuration::from_secs(seconds)).expect("in range");
            progress.fold(&line, now);
            let (completed, total) = progress.bytes();
            prop_assert!(completed >= before, "completed fell from {before} to {completed}");
            prop_assert!(total >= before_total, "the total fell from {before_total:?} to {total:?}");
            prop_assert!(completed >= 0 && completed <= total.unwrap_or(0));
            prop_assert!(percent(completed, total).is_none_or(|percent| (0..=100).contains(&percent)));
            prop_assert!(progress.remaining_seconds().is_none_or(|remaining| remaining >= 0));
            prop_assert!(progress.bytes_per_second().is_none_or(|rate| rate >= 0));
            prop_assert_eq!(progress.status(), line.status.as_str());
            let verifying = line.status.starts_with("verifying");
            prop_assert!(!verifying || !progress.is_stalled(at(9_999_999)), "it stalled while verifying");
        }
    }

    #[test]
    fn it_stalls_a_minute_after_the_last_byte_and_not_before(moves in vec((0..59i64, 0..100i64), 1..30)) {
        let (mut progress, mut now, mut moved, mut done) = (Progress::default(), at(0), at(0), 0);
        let line = |completed| Line {
            status: "pulling a".into(), digest: Some("a".into()), total: Some(1_000_000), completed: Some(completed), error: None,
        };
        progress.fold(&line(0), now);
        for (seconds, bytes) in moves {
            now = now.saturating_add(SignedDuration::from_secs(seconds)).expect("in range");
            done += bytes;
            progress.fold(&line(done), now);
            if bytes > 0 {
                moved = now;
            }
            prop_assert_eq!(progress.is_stalled(now), elapsed(moved, now) >= STALL_AFTER);
        }
        let limit = moved.saturating_add(SignedDuration::from_secs(60)).expect("in range");
        prop_assert!(progress.is_stalled(limit));
        prop_assert!(progress.is_stalled(now) || !progress.is_stalled(limit.saturating_sub(SignedDuration::from_nanos(1)).expect("in range").max(now)) || now >= limit);
    }

    #[test]
    fn a_steady_download_says_how_fast_and_how_long(rate in 1..1_000_000i64, seconds in 2..100i64) {
        let mut progress = Progress::default();
        let total = rate * seconds;
        for second in 0..seconds {
            let line = Line { status: "pulling a".into(), digest: Some("a".into()), total: Some(total), completed: Some(rate * second), error: None };
            progress.fold(&line, at(second));
        }
        prop_assert_eq!(progress.bytes_per_second(), Some(rate));
        prop_assert_eq!(progress.remaining_seconds(), Some(1));
    }

    #[test]
    fn no_message_is_without_a_fault_and_advice(message in ".{0,80}") {
        let fault = Fault::from_message(&message);
        prop_assert!(!fault.reason().is_empty() && !fault.advice().is_empty());
    }

    #[test]
    fn digits_in_sizes_and_digests_are_no_status_codes(digest in "[0-9a-f]{20}", size in 10_000..i64::MAX) {
        let message = format!("part {digest} of {size} bytes went astray");
        prop_assert_eq!(Fault::from_message(&message), Fault::Other);
    }

    #[test]
    fn percent_is_a_share_or_unknown(completed in any::<i64>(), total in prop::option::of(any::<i64>())) {
        match percent(completed, total) {
            None => prop_assert!(total.is_none_or(|total| total <= 0)),
            Some(percent) => {
                prop_assert!((0..=100).contains(&percent));
                prop_assert_eq!(percent == 100, completed >= total.expect("known"));
            }
        }
    }

    #[test]
    fn the_time_between_is_never_negative(a in 0..1000i64, b in 0..1000i64) {
        prop_assert_eq!(elapsed(at(a), at(b)), Duration::from_secs(b.saturating_sub(a).max(0) as u64));
    }

    #[test]
    fn counters_are_written_at_five_percent_or_ten_seconds(
        written in prop::option::of(0..=100i64), percent in prop::option::of(0..=100i64), seconds in 0..20u64,
    ) {
        let expected = seconds >= 10 || match (written, percent) {
            (Some(a), Some(b)) => a.abs_diff(b) >= 5,
            (None, None) => false,
            _ => true,
        };
        prop_assert_eq!(is_worth_writing(written, percent, Duration::from_secs(seconds)), expected);
    }

    #[test]
    fn what_is_done_on_a_node_follows_from_what_is_seen(
        unusable in any::<bool>(), listed in prop::option::of("[xy]"), attempt in attempt(), wanted in wanted(),
    ) {
        let now = at(1000);
        let view = NodeView { unusable: unusable.then_some("drained"), listed: listed.as_deref(), attempt: attempt.as_ref() };
        let wish = wanted.wish();
        let decision = decide(&view, &wish, now);
        let held = held(view.listed, view.attempt);
        let open = attempt.as_ref().is_some_and(Attempt::is_open);
        let pin_is_upstream = wanted.has_target && wanted.pin.as_deref() == Some(UPSTREAM);
        let met = held.is_some_and(|held| match (wanted.pin.as_deref(), wanted.is_mirrored && wanted.has_target) {
            (Some(_), true) if pin_is_upstream => held == TARGET,
            (Some(pin), _) => held == pin,
            (None, true) if wanted.follow => held == TARGET,
            (None, _) => true,
        });
        match decision.action {
            Action::Start => {
                prop_assert!(!wanted.suspended && (!wanted.yields || met));
                prop_assert!(open || !unusable, "an attempt begins on a node that can't be used");
                let needs_mirror = wanted.pin.is_some() || wanted.has_login;
                prop_assert!(met || wanted.is_mirrored || !needs_mirror, "begun though it needs a mirror");
                prop_assert!(open || !wanted.is_mirrored || wanted.is_granted, "begun without a grant");
                prop_assert!(!met || open || (wanted.is_due && wanted.follow && !wanted.is_mirrored), "begun without need");
            }
            Action::Ask => prop_assert!(wanted.is_mirrored && !wanted.is_granted && !met && !unusable && !open),
            Action::Cancel => {
                let refused = (wanted.pin.is_some() || wanted.has_login) && !wanted.is_mirrored;
                prop_assert!(open && (wanted.suspended || unusable || wanted.yields || refused));
            }
            Action::WaitUntil(then) => prop_assert!(then > now && !open),
            Action::Keep => {}
        }
        match decision.phase {
            NodePhase::Ready => prop_assert!(met),
            NodePhase::Failed => {
                prop_assert!(!decision.message.is_empty() && decision.fault.is_some(), "a failure says why");
                let advice = decision.fault.map(Fault::advice).unwrap_or_default();
                prop_assert!(decision.message.contains(advice) || decision.fault == Some(Fault::NeedsMirror), "{}", decision.message);
            }
            NodePhase::Pending => prop_assert!(!decision.message.is_empty(), "who waits says for what"),
            NodePhase::Pulling => prop_assert!(open),
        }
        if met && !open {
            prop_assert_eq!(decision.phase, NodePhase::Ready);
        }
        let has_failed = attempt.as_ref().is_some_and(|attempt| attempt.failure.is_some()) || (wanted.is_mirrored && wanted.has_failed);
        let direct = wanted.pin.is_none() && !wanted.has_login;
        let possible = !unusable && !wanted.suspended && !wanted.yields && (wanted.is_mirrored || direct);
        if !met && !open && possible && !has_failed {
            let expected = if wanted.is_mirrored && !wanted.is_granted { Action::Ask } else { Action::Start };
            prop_assert_eq!(decision.action, expected, "it is wanted, possible and due");
        }
    }

    #[test]
    fn failures_in_a_row_change_what_people_see_ever_more_rarely(details in vec(0..5u32, 1..200)) {
        let mut failure: Option<Failure> = None;
        let mut sentences = std::collections::BTreeSet::new();
        for (index, detail) in details.iter().enumerate() {
            let message = format!("read tcp 10.0.0.1:{detail}: broken");
            failure = Some(Failure::after(failure.as_ref(), Fault::NodeAway, message, at(index as i64)));
            let failure = failure.as_ref().expect("just set");
            prop_assert_eq!((failure.failures as usize, failure.retry_at), (index + 1, at(index as i64)));
            sentences.insert(failure.sentence());
        }
        prop_assert!(sentences.len() <= details.len().ilog2() as usize + 1, "{sentences:?}");
        let other = Failure::after(failure.as_ref(), Fault::NoSpace, "no space".into(), at(0));
        prop_assert!(other.sentence().starts_with("no space"), "another fault is told at once");
    }

    #[test]
    fn whoever_asks_to_come_back_later_is_not_bothered_before(
        fault in prop::sample::select(&Fault::ALL[..]), failures in 1..50u32, asked in prop::option::of(0..100_000u64), jitter in 0.0..1.0,
    ) {
        let (first, ceiling) = (Duration::from_secs(5), Duration::from_secs(300));
        let wait = retry_after(fault, failures, (first, ceiling), asked.map(Duration::from_secs), jitter);
        let asked = Duration::from_secs(asked.unwrap_or_default().min(3600));
        prop_assert!(wait >= asked && wait <= ceiling.max(asked), "{wait:?} for {asked:?}");
    }

    #[test]
    fn a_pull_of_known_size_never_goes_back_and_ends_at_99(sizes in vec(1..1_000_000i64, 1..6), steps in 1..20i64) {
        let total: i64 = sizes.iter().sum();
        let (mut progress, mut seen) = (Progress::of(total), Vec::new());
        prop_assert_eq!(progress.bytes(), (0, Some(total)));
        for (index, size) in sizes.iter().enumerate() {
            for step in 0..=steps {
                let line = Line {
                    status: format!("pulling {index}"), digest: Some(index.to_string()), total: Some(*size),
                    completed: Some(size * step / steps), error: None,
                };
                progress.fold(&line, at(seen.len() as i64));
                seen.push((progress.bytes().0, progress.percent().expect("the total is known")));
            }
        }
        prop_assert!(seen.is_sorted(), "{seen:?}");
        prop_assert_eq!(seen[0].1, 0);
        prop_assert_eq!(*seen.last().expect("some"), (total, 99));
        prop_assert_eq!(progress.arrived(), total);
        prop_assert_eq!(progress.bytes(), (total, Some(total)));
    }

    #[test]
    fn the_whole_is_ready_exactly_when_every_node_is(nodes in vec(node_phase(), 0..6), suspended in any::<bool>()) {
        let all = !nodes.is_empty() && nodes.iter().all(|node| *node == NodePhase::Ready);
        let whole = phase(&nodes, suspended);
        prop_assert_eq!(whole == Phase::Ready, all);
        prop_assert_eq!(whole == Phase::Suspended, suspended && !all);
        let has = |phase| nodes.contains(&phase);
        if !suspended && !all {
            let expected = match (has(NodePhase::Pulling), has(NodePhase::Ready), has(NodePhase::Failed)) {
                (true, ..) => Phase::Pulling,
                (_, true, _) => Phase::Degraded,
                (_, _, true) => Phase::Failed,
                _ => Phase::Pending,
            };
            prop_assert_eq!(whole, expected);
        }
    }
}

fn node_phase() -> impl Strategy<Value = NodePhase> {
    prop_oneof![Just(NodePhase::Failed), Just(NodePhase::Pending), Just(NodePhase::Pulling), Just(NodePhase::Ready)]
}

const TARGET: &str = "x";
const UPSTREAM: &str = "u";

/// What an object may want of a node.
#[derive(Clone, Debug)]
struct Wanted {
    pin: Option<String>,
    follow: bool,
    suspended: bool,
    yields: bool,
    has_login: bool,
    is_mirrored: bool,
    is_due: bool,
    has_target: bool,
    is_granted: bool,
    has_failed: bool,
    failure: Failure,
}

impl Wanted {
    fn wish(&self) -> Wish<'_> {
        let target = Target { digest: TARGET, upstream_digest: UPSTREAM };
        let source = match self.is_mirrored {
            false => Source::Direct { due: self.is_due },
            true => Source::Mirror {
                target: self.has_target.then_some(target),
                granted: self.is_granted,
                failure: self.has_failed.then_some(&self.failure),
            },
        };
        Wish {
            pin: self.pin.as_deref(),
            follow: self.follow,
            suspended: self.suspended,
            yields: self.yields.then_some("ModelPull other pins y"),
            has_login: self.has_login,
            source,
        }
    }
}

fn wanted() -> impl Strategy<Value = Wanted> {
    (prop::option::of("[xyu]"), any::<[bool; 9]>(), failure()).prop_map(|(pin, flags, failure)| {
        let [follow, suspended, yields, has_login, is_mirrored, is_due, has_target, is_granted, has_failed] = flags;
        Wanted {
            pin,
            follow,
            suspended,
            yields,
            has_login,
            is_mirrored,
            is_due,
            has_target,
            is_granted,
            has_failed,
            failure,
        }
    })
}

fn failure() -> impl Strategy<Value = Failure> {
    (prop::sample::select(&Fault::ALL[..]), 1..40u32, 990..1010i64).prop_map(|(fault, failures, retry)| Failure {
        fault,
        message: "it went wrong".into(),
        failures,
        retry_at: at(retry),
    })
}

fn attempt() -> impl Strategy<Value = Option<Attempt>> {
    let stage = prop_oneof![
        prop::sample::select(&[Hold::Node, Hold::Turn, Hold::All(3), Hold::Object(1)][..]).prop_map(Stage::Queued),
        Just(Stage::Running(Progress::of(10))),
        ("[xy]", prop::option::of("[xy]")).prop_map(|(digest, before)| Stage::Done { digest, size_bytes: 7, before }),
    ];
    prop_oneof![
        Just(None),
        (stage, prop::option::of(failure())).prop_map(|(stage, failure)| Some(Attempt {
            stage,
            failure,
            bypass: None
        })),
        failure().prop_map(|failure| Some(Attempt { failure: Some(failure), ..Attempt::new(Stage::Failed) })),
    ]
}

#[test]
fn a_node_that_lists_the_model_again_is_believed() {
    let done = |before: Option<&str>| {
        Attempt::new(Stage::Done { digest: "new".into(), size_bytes: 1, before: before.map(str::to_owned) })
    };
    // The list is as it was before the attempt ended.
    assert_eq!(held(None, Some(&done(None))), Some("new"));
    assert_eq!(held(Some("old"), Some(&done(Some("old")))), Some("new"));
    // It is newer.
    assert_eq!(held(Some("new"), Some(&done(Some("old")))), Some("new"));
    assert_eq!(held(Some("other"), Some(&done(Some("old")))), Some("other"));
    assert_eq!(held(None, Some(&done(Some("old")))), None);
}

#[test]
fn a_missing_digest_or_total_counts_nothing() {
    let mut progress = Progress::default();
    progress.fold(&Line { status: "pulling manifest".into(), completed: Some(5), ..Line::default() }, at(0));
    assert_eq!((progress.bytes(), progress.remaining_seconds()), ((0, None), None));
}

#[test]
fn layers_of_any_size_do_not_overflow() {
    let mut progress = Progress::default();
    for (index, digest) in ["a", "b", "c"].into_iter().enumerate() {
        let line = Line {
            digest: Some(digest.into()),
            total: Some(i64::MAX),
            completed: Some(i64::MAX / 2),
            ..Line::default()
        };
        progress.fold(&line, at(10 * index as i64));
    }
    assert_eq!(progress.bytes(), (i64::MAX, Some(i64::MAX)));
}

/// What Ollama 0.17.4 says, as its server/{images,download,auth}.go put it together, and what it means.
const MESSAGES: &[(&str, Fault)] = &[
    ("pull model manifest: file does not exist", Fault::NoSuchModel),
    (
        r#"pull model manifest: 404: {"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
        Fault::NoSuchModel,
    ),
    (
        r#"pull model manifest: 412: {"errors":[{"message":"The model you are attempting to pull requires a newer version of Ollama."}]}"#,
        Fault::NeedsNewerOllama,
    ),
    ("pull model manifest: unauthorized: access denied", Fault::Unauthorized),
    (r#"pull model manifest: 403: {"errors":[{"code":"DENIED"}]}"#, Fault::Unauthorized),
    ("pull model manifest: 429: too many requests", Fault::RateLimited),
    ("pull model manifest: 503: upstream unavailable", Fault::RegistryUnreachable),
    ("pull model manifest: 500: internal server error", Fault::RegistryUnreachable),
    ("insecure protocol http", Fault::WrongScheme),
    (
        r#"pull model manifest: Get "https://10.0.0.7:5000/v2/me/bot/manifests/latest": http: server gave HTTP response to HTTPS client"#,
        Fault::WrongScheme,
    ),
    ("http: no Location header in response", Fault::PlainRegistry),
    (
        r#"pull model manifest: Get "https://registry.example/v2/me/bot/manifests/1": dial tcp: lookup registry.example on 10.0.0.1:53: no such host"#,
        Fault::RegistryUnreachable,
    ),
    (
        r#"pull model manifest: Get "http://127.0.0.1:404/v2/me/bot/manifests/1": dial tcp 127.0.0.1:404: connect: connection refused"#,
        Fault::RegistryUnreachable,
    ),
    (
        r#"pull model manifest: Get "https://denied.example/v2/a/b/manifests/1": dial tcp 10.0.0.9:443: i/o timeout"#,
        Fault::RegistryUnreachable,
    ),
    (
        "max retries exceeded: Get \"https://cdn.example/blob\": read tcp 10.0.0.1:5:443: connection reset by peer",
        Fault::RegistryUnreachable,
    ),
    ("max retries exceeded: unexpected EOF", Fault::RegistryUnreachable),
    (
        "max retries exceeded: write /root/.ollama/models/blobs/sha256-0-partial: no space left on device",
        Fault::NoSpace,
    ),
    ("open /root/.ollama/models/blobs/sha256-0: disk quota exceeded", Fault::NoSpace),
    ("digest mismatch, file must be downloaded again: want sha256:4040, got sha256:5030", Fault::DigestMismatch),
    ("maximum redirects exceeded (10) for directURL", Fault::Other),
    ("context canceled", Fault::Other),
    ("", Fault::Other),
];

#[test]
fn ollamas_messages_mean_what_they_say() {
    for (message, fault) in MESSAGES {
        assert_eq!(Fault::from_message(message), *fault, "{message}");
        assert_eq!(Fault::from_message(&message.to_uppercase()), *fault, "case does not matter: {message}");
    }
}

#[test]
fn behind_a_mirror_a_failed_connection_is_one_to_the_mirror() {
    let refused = r#"pull model manifest: Get "http://10.0.0.5:11437/v2/t/bot/manifests/1": dial tcp 10.0.0.5:11437: connect: connection refused"#;
    assert_eq!(Fault::through_mirror(refused), Fault::MirrorUnreachable);
    assert_eq!(Fault::through_mirror("max retries exceeded: unexpected EOF"), Fault::RegistryUnreachable);
    assert_eq!(Fault::through_mirror("write blob: no space left on device"), Fault::NoSpace);
    assert_eq!(Fault::through_mirror("pull model manifest: 507: the mirror's disk is full"), Fault::MirrorFull);
}

#[test]
fn every_fault_has_a_reason_of_its_own_and_advice() {
    let all = Fault::ALL;
    let camel = regex::Regex::new("^([A-Z][a-z]+)+$").expect("a pattern");
    let reasons: std::collections::BTreeSet<_> = all.iter().map(|fault| fault.reason()).collect();
    assert_eq!(reasons.len(), all.len());
    assert!(reasons.iter().all(|reason| camel.is_match(reason)), "{reasons:?}");
    assert!(all.iter().all(|fault| fault.advice().len() > 10));
    assert!(all.iter().all(|fault| Fault::from_reason(fault.reason()) == Some(*fault)));
}

#[test]
fn a_node_that_was_away_is_tried_again_soon_and_hashing_may_take_long() {
    let waits = (Duration::from_secs(5), Duration::from_secs(300));
    let wait = |fault| retry_after(fault, 20, waits, None, 1.0);
    assert_eq!(wait(Fault::NodeAway), Duration::from_secs(10));
    assert_eq!(wait(Fault::MirrorUnreachable), Duration::from_secs(10));
    assert_eq!(wait(Fault::NoSuchModel), Duration::from_secs(300));
    let line = |status: &str| Line { status: status.into(), ..Line::default() };
    assert_eq!(line("pulling 0123456789ab").patience(), STALL_AFTER);
    assert!(line("verifying sha256 digest").patience() > STALL_AFTER);
}

fn answer() -> impl Strategy<Value = Answer> {
    let outdated = prop::option::of(Just("the registry is away".to_owned()));
    prop_oneof![Just(Answer::Awaited), Just(Answer::Refused("no such model".into())), outdated.prop_map(Answer::Given)]
}

fn asked() -> impl Strategy<Value = Asked<'static>> {
    (any::<[bool; 4]>(), prop::option::of(Just("it is away"))).prop_map(|(flags, failure)| {
        let [is_direct, is_usable, has_asked, is_ready] = flags;
        Asked { is_direct, is_usable, has_asked, is_ready, failure }
    })
}

proptest! {
    #[test]
    fn a_tag_counts_as_looked_up_once_everybody_who_can_has_asked(answer in answer(), nodes in vec(asked(), 0..5)) {
        let is_mirrored = nodes.iter().any(|node| !node.is_direct);
        let silent: Vec<_> = nodes.iter().filter(|n| n.is_direct && n.is_usable && !n.has_asked).collect();
        let has_failed = silent.iter().any(|node| node.failure.is_some());
        match lookup(&answer, &nodes) {
            Lookup::Awaited => {
                prop_assert!(is_mirrored && answer == Answer::Awaited || !silent.is_empty() && !has_failed);
            }
            Lookup::Answered { is_pending, failure } => {
                prop_assert!(!is_mirrored || answer != Answer::Awaited);
                prop_assert!(silent.is_empty() || failure.is_some());
                let is_refused = is_mirrored && matches!(answer, Answer::Refused(_)) || has_failed;
                prop_assert!(!is_refused || is_pending && failure.is_some(), "what failed is tried again, and told");
                let lacks = nodes.iter().any(|node| !node.is_ready || node.is_direct && !node.has_asked);
                prop_assert_eq!(is_pending, is_refused || lacks);
            }
        }
    }
}
