//! What callers of a pull hear, and what stands against a removal.

use drover::domain::{
    digest::Digest,
    model_name::{self, ModelName},
    operations::{
        News, STARTING, SeenNode, SeenPull, Uses, identity, is_news, news, object_name, obstacle, refreshed, stays,
    },
    pull::{Fault, Line, NodePhase, Phase, phase},
};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

fn object(model: &str) -> String {
    let model: ModelName = model.parse().expect("a model's name");
    object_name(&model, Digest::from_sha256(&Sha256::digest(identity(&model))).hex())
}

/// What the API server takes for the name of a ModelPull.
fn is_dns_name(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let label = |label: &str| {
        edge(label.chars().next()) && edge(label.chars().last()) && label.chars().all(|c| c == '-' || edge(Some(c)))
    };
    name.len() <= 63 && name.split('.').all(label)
}

#[test]
fn objects_are_named_after_their_models() {
    for (model, start) in [
        ("llama3.2:3b", "llama3.2-3b-"),
        ("llama3.2", "llama3.2-latest-"),
        ("team/bot:v1", "team-bot-v1-"),
        ("hf.co/Foo/Bar-GGUF:Q4_K_M", "hf.co-foo-bar-gguf-q4-k-m-"),
        ("registry.example.com:5000/a/b:c", "registry.example.com-5000-a-b-c-"),
        ("_/_:_", "model-"),
        ("a._b/c._d:e", "a.b-c.d-e-"),
    ] {
        if let Ok(name) = model.parse::<ModelName>() {
            let hash = Digest::from_sha256(&Sha256::digest(identity(&name)));
            assert_eq!(object_name(&name, hash.hex()), format!("{start}{}", &hash.hex()[..8]), "{model}");
        }
    }
    assert_eq!(object("llama3.2"), object("registry.ollama.ai/library/LLAMA3.2:latest"));
}

/// Names that the API server takes.
fn names() -> impl Strategy<Value = String> {
    prop::string::string_regex(model_name::PATTERN.trim_matches(['^', '$'])).expect("a pattern")
}

const FAULTS: [Option<Fault>; 4] =
    [None, Some(Fault::NoSuchModel), Some(Fault::NoSpace), Some(Fault::RegistryUnreachable)];

#[derive(Clone, Debug)]
struct Part {
    phase: NodePhase,
    fault: Option<Fault>,
    is_usable: bool,
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let phases =
        prop::sample::select(vec![NodePhase::Failed, NodePhase::Pending, NodePhase::Pulling, NodePhase::Ready]);
    let part = (phases, prop::sample::select(FAULTS.to_vec()), any::<bool>()).prop_map(|(phase, fault, is_usable)| {
        Part { phase, fault: fault.filter(|_| phase == NodePhase::Failed), is_usable }
    });
    prop::collection::vec(part, 0..6)
}

fn seen(
    parts: &[Part],
    progress: Option<i64>,
    size: Option<i64>,
    suspended: bool,
    is_overdue: bool,
) -> SeenPull<'static> {
    let phases: Vec<NodePhase> = parts.iter().map(|part| part.phase).collect();
    let ready = phases.iter().filter(|phase| **phase == NodePhase::Ready).count() as i64;
    let node = |part: &Part| SeenNode {
        name: "gpu",
        phase: part.phase,
        fault: part.fault,
        message: "why",
        is_usable: part.is_usable,
    };
    SeenPull {
        object: "bot",
        model: "bot:1",
        phase: phase(&phases, suspended),
        progress,
        desired: parts.len() as i64,
        ready,
        resolved: size.map(|size| ("sha256:0123456789abcdef", size)),
        is_overdue,
        nodes: parts.iter().map(node).collect(),
    }
}

proptest! {
    #[test]
    fn names_of_objects_are_dns_names_and_keep_models_apart(a in names(), b in names()) {
        let (first, second) = (object(&a), object(&b));
        prop_assert!(is_dns_name(&first), "{a} → {first}");
        prop_assert_eq!(first == second, ModelName::same(&a, &b), "{} and {}", a, b);
    }

    #[test]
    fn nobody_waits_for_what_can_not_come_or_leaves_what_still_may(
        parts in parts(),
        progress in prop::option::of(-5_i64..200),
        size in prop::option::of(0..i64::MAX),
        suspended in any::<bool>(),
        is_overdue in any::<bool>(),
    ) {
        let pull = seen(&parts, progress, size, suspended, is_overdue);
        let lacks = |part: &&Part| part.phase != NodePhase::Ready;
        let could: Vec<&Part> = parts.iter().filter(lacks).filter(|part| part.is_usable).collect();
        let may_come = |part: &&Part| part.fault.is_none_or(|fault| !fault.needs_somebody());
        match news(&pull) {
            News::Done { later } => {
                prop_assert!(pull.ready > 0 && could.is_empty() && pull.phase != Phase::Pulling);
                prop_assert_eq!(later.is_none(), pull.ready == pull.desired);
            }
            News::Failed { is_hopeless, .. } => {
                prop_assert!(pull.phase != Phase::Pulling && pull.phase != Phase::Ready);
                prop_assert!(!is_hopeless || pull.ready == 0);
                let in_vain = pull.desired == 0 || !could.is_empty() && !could.iter().any(may_come);
                prop_assert!(suspended || is_overdue || in_vain);
            }
            News::Going(line) => {
                prop_assert!(!line.status.is_empty() && pull.desired > 0);
                prop_assert!(pull.phase == Phase::Pulling || could.iter().any(may_come) || could.is_empty());
                prop_assert!(line.completed >= line.digest.as_ref().map(|_| 0) && line.completed <= line.total, "{line:?}");
            }
        }
    }

    #[test]
    fn a_tag_that_is_looked_up_again_ends_nothing_before_that_is_answered(
        parts in parts(),
        progress in prop::option::of(0_i64..101),
        looked_up in prop::option::of(prop::option::of("(it is away)?")),
    ) {
        let plain = news(&seen(&parts, progress, Some(7), false, false));
        let told = refreshed(plain.clone(), looked_up.as_ref().map(|looked_up| looked_up.as_deref()));
        match (looked_up, plain) {
            (Some(None), News::Done { .. } | News::Failed { .. }) => prop_assert_eq!(told, None),
            (Some(Some(why)), News::Done { .. }) if !why.is_empty() => {
                let says = matches!(&told, Some(News::Failed { message, is_hopeless: false }) if message.contains(&why));
                prop_assert!(says, "{:?}", told);
            }
            (_, plain) => prop_assert_eq!(told, Some(plain)),
        }
    }

    #[test]
    fn nothing_is_removed_while_something_needs_it(
        deployment in prop::option::of("[a-z]{3}"),
        names in prop::collection::vec("[a-z]{3}", 0..9),
        kinds in prop::collection::vec(0..3_usize, 9),
    ) {
        let of_kind = |kind| names.iter().zip(&kinds).filter(move |(_, k)| **k == kind).map(|(name, _)| name.as_str()).collect();
        let uses = Uses {
            deployment: deployment.as_deref(),
            pulls: of_kind(0),
            versions: of_kind(1),
            deployments: of_kind(2),
        };
        let why = obstacle("bot:1", &uses);
        prop_assert_eq!(why.is_some(), deployment.is_some() || !names.is_empty());
        for first in [uses.pulls.first(), uses.versions.first(), uses.deployments.first()].into_iter().flatten() {
            prop_assert!(deployment.is_some() || why.as_ref().is_some_and(|why| why.contains(first)));
        }
    }
}

#[test]
fn what_stays_is_told_with_what_to_do() {
    assert_eq!(stays("bot:1", &[]), None);
    let nodes = [("a", "http://a:1"), ("b", "http://b:1"), ("c", "http://c:1"), ("d", "http://d:1")];
    let told = stays("bot:1", &nodes).expect("a sentence");
    assert!(
        told.contains("on a, b, c and 1 more") && told.contains("`OLLAMA_HOST=http://a:1 ollama rm bot:1`"),
        "{told}"
    );
}

#[test]
fn a_screen_is_not_filled_with_counts_of_attempts() {
    let line = |status: &str, completed: Option<i64>| Line { status: status.into(), completed, ..Line::default() };
    let failed = line("gpu-1: no route (1 attempt failed)", None);
    for (told, next, expected) in [
        (None, line(STARTING, None), true),
        (Some(line(STARTING, None)), line(STARTING, None), false),
        (Some(line(STARTING, None)), failed.clone(), true),
        (Some(failed.clone()), line("gpu-1: no route (2 attempt failed)", None), false),
        (Some(failed.clone()), line(STARTING, None), false),
        (Some(failed), line("pulling 0123", Some(0)), true),
        (Some(line("pulling 0123", Some(5))), line("pulling 0123", Some(6)), true),
        (Some(line("pulling 0123", Some(5))), line("pulling 0123", Some(5)), false),
    ] {
        assert_eq!(is_news(told.as_ref(), &next), expected, "{told:?} then {next:?}");
    }
}
