//! The health of a fleet.

use drover::domain::{
    health::{Counts, Lack, MAINTENANCE, ProviderHealth, Report, SeenNode, SeenPull, Status, join, report},
    wait::Standing,
};
use proptest::prelude::*;

const NODES: [&str; 4] = ["n0", "n1", "n2", "n3"];
const PULLS: [&str; 4] = ["p0", "p1", "p2", "p3"];
const MODELS: [&str; 3] = ["a:1", "team/b:latest", "c:2"];

#[derive(Clone, Debug)]
struct Node {
    ready: bool,
    drained: bool,
    holds: [bool; 3],
}

#[derive(Clone, Debug)]
struct Pull {
    model: usize,
    required: bool,
    suspended: bool,
    selects: [bool; 4],
    pinned: bool,
}

fn node() -> impl Strategy<Value = Node> {
    (any::<bool>(), prop::bool::weighted(0.2), any::<[bool; 3]>()).prop_map(|(ready, drained, holds)| Node {
        ready: ready && !drained,
        drained,
        holds,
    })
}

fn pull() -> impl Strategy<Value = Pull> {
    (0..3usize, any::<bool>(), prop::bool::weighted(0.2), any::<[bool; 4]>(), prop::bool::weighted(0.2))
        .prop_map(|(model, required, suspended, selects, pinned)| Pull { model, required, suspended, selects, pinned })
}

fn fleet() -> impl Strategy<Value = (Vec<Node>, Vec<Pull>)> {
    (prop::collection::vec(node(), 0..=4), prop::collection::vec(pull(), 0..=4))
}

fn seen(nodes: &[Node], pulls: &[Pull]) -> (Vec<SeenNode<'static>>, Vec<SeenPull<'static>>) {
    let seen_nodes = nodes.iter().zip(NODES).map(|(node, name)| SeenNode {
        name,
        ready: node.ready,
        drained: node.drained,
        reason: if node.drained { MAINTENANCE } else { "Any" },
        message: "why",
        models: MODELS.into_iter().zip(node.holds).filter(|(_, holds)| *holds).map(|(name, _)| (name, "d")).collect(),
    });
    let seen_pulls = pulls.iter().zip(PULLS).map(|(pull, name)| SeenPull {
        name,
        model: MODELS[pull.model],
        required: pull.required,
        suspended: pull.suspended,
        selected: (0..nodes.len()).filter(|index| pull.selects[*index]).collect(),
        digests: if pull.pinned { vec!["other"] } else { Vec::new() },
        message: "",
    });
    (seen_nodes.collect(), seen_pulls.collect())
}

fn judged(nodes: &[Node], pulls: &[Pull]) -> Report<'static> {
    let (nodes, pulls) = seen(nodes, pulls);
    report("ns", &nodes, &pulls, Vec::new())
}

proptest! {
    #[test]
    fn a_required_model_that_no_ready_node_holds_is_unhealthy_and_named((nodes, pulls) in fleet()) {
        let report = judged(&nodes, &pulls);
        for (pull, name) in pulls.iter().zip(PULLS) {
            let served = !pull.pinned && nodes.iter().any(|node| node.ready && node.holds[pull.model]);
            let missing = report.missing.iter().find(|missing| missing.pull == name);
            if pull.required && !served {
                prop_assert_eq!(report.status, Status::Unhealthy);
                prop_assert_eq!(missing.map(|missing| (missing.name, missing.reason, missing.required)),
                    Some((MODELS[pull.model], Lack::OnNoNode, true)));
            }
            if !pull.required && pull.suspended {
                prop_assert!(missing.is_none(), "asks for nothing");
            }
        }
    }

    #[test]
    fn the_status_follows_from_what_is_listed((nodes, pulls) in fleet()) {
        let report = judged(&nodes, &pulls);
        let none_ready = !nodes.is_empty() && nodes.iter().all(|node| !node.ready);
        let not_served = report.missing.iter().any(|missing| missing.required && missing.reason == Lack::OnNoNode);
        let away = nodes.iter().any(|node| !node.ready && !node.drained);
        let expected = match (none_ready || not_served, away || !report.missing.is_empty()) {
            (true, _) => Status::Unhealthy,
            (_, true) => Status::Degraded,
            _ => Status::Healthy,
        };
        prop_assert_eq!(report.status, expected);
        for missing in &report.missing {
            prop_assert!(missing.message.len() > 10, "says what is wrong: {}", missing.message);
        }
        prop_assert!(report.missing.is_sorted_by_key(|missing| !missing.required), "required ones first");
    }

    #[test]
    fn a_model_is_listed_with_exactly_the_ready_nodes_that_hold_it((nodes, pulls) in fleet()) {
        let report = judged(&nodes, &pulls);
        let models = report.models.as_deref().unwrap_or_default();
        for (index, name) in MODELS.iter().enumerate() {
            let holders: Vec<&str> =
                nodes.iter().zip(NODES).filter(|(node, _)| node.ready && node.holds[index]).map(|(_, n)| n).collect();
            let listed = models.iter().find(|model| model.name == *name);
            prop_assert_eq!(listed.map(|model| model.nodes.clone()).unwrap_or_default(), holders);
            if let Some(listed) = listed {
                prop_assert_eq!(listed.required, pulls.iter().any(|pull| pull.required && pull.model == index));
            }
        }
        prop_assert_eq!(report.nodes.as_ref().map(Vec::len), Some(nodes.len()));
    }

    #[test]
    fn another_node_that_holds_everything_never_makes_it_worse((nodes, pulls) in fleet()) {
        prop_assume!(nodes.len() < NODES.len());
        let more = [nodes, vec![Node { ready: true, drained: false, holds: [true; 3] }]].concat();
        let unpinned: Vec<Pull> = pulls.into_iter().map(|pull| Pull { pinned: false, ..pull }).collect();
        let status = judged(&more, &unpinned).status;
        prop_assert!(status >= Status::Degraded, "something answers for every model");
    }

    #[test]
    fn several_namespaces_are_as_bad_as_the_worst(fleets in prop::collection::vec(fleet(), 0..4)) {
        let reports: Vec<_> = fleets.iter().map(|(nodes, pulls)| judged(nodes, pulls)).collect();
        let whole = join(&reports);
        prop_assert_eq!(whole.status, reports.iter().map(|report| report.status).min().unwrap_or(Status::Healthy));
        prop_assert_eq!(whole.counts.nodes, fleets.iter().map(|(nodes, _)| nodes.len()).sum::<usize>());
        prop_assert_eq!(whole.missing.len(), reports.iter().map(|report| report.missing.len()).sum::<usize>());
        let summary = whole.summary();
        prop_assert!(summary.nodes.is_none() && summary.models.is_none());
        prop_assert_eq!((summary.status, summary.counts, &summary.missing), (whole.status, whole.counts, &whole.missing));
    }

    #[test]
    fn a_wait_tells_of_what_matters_and_not_of_creeping_counters(percent in 0..=100i64, more in 0..=100i64, attempt in 0..1000) {
        let standing = |percent, attempt: i32| Standing {
            name: "p".into(), model: "a:1".into(), desired_nodes: 2, percent: Some(percent),
            reason: "PullFailed".into(), message: format!("no such model (attempt {attempt} failed)"), ..Standing::default()
        };
        let told = standing(percent, 1);
        prop_assert_eq!(standing(more, attempt).is_news_after(&told), (more - percent).abs() >= 10);
        let next = Standing { ready: true, ..told.clone() };
        prop_assert!(next.is_news_after(&told));
        let next = Standing { ready_nodes: 1, ..told.clone() };
        prop_assert!(next.is_news_after(&told));
        let next = Standing { message: "no space".into(), ..told.clone() };
        prop_assert!(next.is_news_after(&told));
    }
}

#[test]
fn drained_nodes_are_neither_away_nor_of_use() {
    let holder = |ready, drained| Node { ready, drained, holds: [true; 3] };
    let pull = Pull { model: 0, required: true, suspended: false, selects: [true; 4], pinned: false };
    let healthy = judged(&[holder(true, false), holder(false, true)], std::slice::from_ref(&pull));
    assert_eq!((healthy.status, healthy.counts.drained_nodes), (Status::Healthy, 1));
    assert_eq!(judged(&[holder(false, true)], &[pull]).status, Status::Unhealthy);
}

#[test]
fn every_spelling_of_a_name_is_one_model() {
    let node = SeenNode { name: "n", ready: true, models: vec![("Llama3.2:latest", "d")], ..SeenNode::default() };
    let pull = |model| SeenPull { name: "p", model, required: true, selected: vec![0], ..SeenPull::default() };
    let pulls = [pull("llama3.2"), pull("registry.ollama.ai/library/llama3.2:latest")];
    assert_eq!(report("ns", &[node], &pulls, Vec::new()).status, Status::Healthy);
}

#[test]
fn a_provider_that_can_not_be_used_degrades() {
    let provider =
        |key_present| ProviderHealth { namespace: "ns", name: "p", configured: true, key_present, reachable: true };
    assert_eq!(report("ns", &[], &[], vec![provider(true)]).status, Status::Healthy);
    let keyless = report("ns", &[], &[], vec![provider(false)]);
    assert_eq!(keyless.status, Status::Degraded);
    assert_eq!(keyless.warnings(), ["provider ns/p has no key"]);
}

#[test]
fn start_up_warnings_name_the_worst_and_count_the_rest() {
    let names: Vec<String> = (0..30).map(|index| format!("pull-{index}")).collect();
    let pull = |(index, name): (usize, &'static str)| SeenPull {
        name,
        model: "a:1",
        required: index == 29,
        ..SeenPull::default()
    };
    let names: Vec<&'static str> = names.into_iter().map(|name| &*name.leak()).collect();
    let pulls: Vec<_> = names.into_iter().enumerate().map(pull).collect();
    let node = SeenNode { name: "gone", reason: "ConnectionRefused", message: "refused", ..SeenNode::default() };
    let warnings = report("ns", &[node], &pulls, Vec::new()).warnings();
    assert_eq!(warnings.len(), 21);
    assert!(
        warnings[0].starts_with("required model a:1 is missing (ModelPull ns/pull-29): no ready node"),
        "{}",
        warnings[0]
    );
    assert_eq!(warnings[20], "and 11 more: see /health/models");
    let few = report("ns", &[SeenNode { name: "gone", message: "refused", ..SeenNode::default() }], &[], Vec::new());
    assert_eq!(few.warnings(), ["node ns/gone is not ready: refused"]);
    assert_eq!(few.counts, Counts { nodes: 1, ..Counts::default() });
}
