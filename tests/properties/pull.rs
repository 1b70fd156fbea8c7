//! Progress lines, faults, and what is done on a node.

use std::time::Duration;

use drover::domain::pull::{
    Action, Attempt, Fault, Line, NodePhase, NodeView, Phase, Progress, STALL_AFTER, decide, elapsed, is_worth_writing,
    percent, phase, retry_after,
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
    fn an_attempt_starts_only_where_one_is_wanted_and_possible(
        unusable in any::<bool>(), present in prop::option::of("[xy]"), pin in prop::option::of("[xy]"),
        suspended in any::<bool>(), attempt in attempt(),
    ) {
        let now = at(1000);
        let view = NodeView { unusable: unusable.then_some("drained"), present: present.as_deref(), attempt: attempt.as_ref() };
        let (action, node, message) = decide(&view, pin.as_deref(), suspended, now);
        let running = matches!(attempt, Some(Attempt::Queued | Attempt::Running(_)));
        let done = match &attempt { Some(Attempt::Done { digest, .. }) => Some(digest.as_str()), _ => None };
        let have = present.as_deref().or(done);
        if action == Action::Start {
            prop_assert!(!suspended && !unusable && pin.is_none() && have.is_none() && !running);
        }
        if action == Action::Cancel {
            prop_assert!(suspended && running);
        }
        if let Action::WaitUntil(then) = action {
            prop_assert!(then > now && !suspended);
        }
        if node == NodePhase::Ready {
            prop_assert!(have.is_some() && pin.as_deref().is_none_or(|pin| have == Some(pin)));
        }
        if have.is_some() && !running && (pin.is_none() || pin.as_deref() == have) {
            prop_assert_eq!(node, NodePhase::Ready);
        }
        if node == NodePhase::Failed {
            prop_assert!(message.is_some_and(|message| !message.is_empty()), "a failure says why");
        }
        let wanted = have.is_none() && !suspended && !unusable && pin.is_none();
        let due = match &attempt { None => true, Some(Attempt::Failed { retry_at, .. }) => *retry_at <= now, _ => false };
        if wanted && due {
            prop_assert_eq!(action, Action::Start, "it is wanted, possible and due");
        }
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

fn attempt() -> impl Strategy<Value = Option<Attempt>> {
    prop_oneof![
        Just(None),
        Just(Some(Attempt::Queued)),
        Just(Some(Attempt::Running(Progress::default()))),
        "[xy]".prop_map(|digest| Some(Attempt::Done { digest, size_bytes: 7 })),
        (990..1010i64).prop_map(|retry| Some(Attempt::Failed {
            fault: Fault::NoSpace,
            message: "no space left on device".into(),
            failures: 2,
            retry_at: at(retry),
        })),
    ]
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
fn every_fault_has_a_reason_of_its_own_and_advice() {
    let all = [
        Fault::NoSuchModel,
        Fault::RegistryUnreachable,
        Fault::Unauthorized,
        Fault::RateLimited,
        Fault::NoSpace,
        Fault::NeedsNewerOllama,
        Fault::WrongScheme,
        Fault::PlainRegistry,
        Fault::DigestMismatch,
        Fault::NodeAway,
        Fault::Stalled,
        Fault::Other,
    ];
    let camel = regex::Regex::new("^([A-Z][a-z]+)+$").expect("a pattern");
    let reasons: std::collections::BTreeSet<_> = all.iter().map(|fault| fault.reason()).collect();
    assert_eq!(reasons.len(), all.len());
    assert!(reasons.iter().all(|reason| camel.is_match(reason)), "{reasons:?}");
    assert!(all.iter().all(|fault| fault.advice().len() > 10));
}

#[test]
fn a_node_that_was_away_is_tried_again_soon_and_hashing_may_take_long() {
    let wait = |fault| retry_after(fault, 20, Duration::from_secs(5), Duration::from_secs(300), 1.0);
    assert_eq!(wait(Fault::NodeAway), Duration::from_secs(10));
    assert_eq!(wait(Fault::NoSuchModel), Duration::from_secs(300));
    let line = |status: &str| Line { status: status.into(), ..Line::default() };
    assert_eq!(line("pulling 0123456789ab").patience(), STALL_AFTER);
    assert!(line("verifying sha256 digest").patience() > STALL_AFTER);
}
