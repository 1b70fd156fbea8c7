//! Chains over real nodes: a provider as a step, a chain that is edited while it is used, a node that is lost between steps.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    fleet::{Fleet, node_manifest, pull_manifest},
    namespace::{SOON, condition},
    support::{eventually, gguf::TinyLlama, kube_api::Server},
    world::on_both_apis,
};

on_both_apis! {
    chains_stand_edits_and_lost_nodes_and_go_on_to_a_provider,
}

const EDITS: usize = 12;
/// How many ask at each gateway while a chain is edited.
const CALLERS: usize = 2;

/// `node-1` has `small` and `big`, `node-2` has `far`, both have `both`; where there is a choice, `node-2` goes first.
async fn fleet(server: Server) -> Fleet {
    let says = |seed, sentence: &str| TinyLlama::new(seed).says(sentence);
    let models = [
        ("drover/small", "1", says(1, "{\"n\": 1}")),
        ("drover/big", "1", says(2, "{\"n\": 2}")),
        ("drover/far", "1", says(3, "{\"n\": 3}")),
        ("drover/both", "1", says(4, "{\"n\": 4}")),
    ];
    let fleet = Fleet::start(server, &models).await;
    for (name, node, weight) in [("node-1", 0, 1), ("node-2", 1, 100)] {
        let manifest = node_manifest(name, &fleet.nodes[node].url());
        fleet.apply(&manifest.replace("keepAlive: 5m", &format!("keepAlive: 5m, weight: {weight}"))).await;
    }
    for (name, place) in [("small", "node-1"), ("big", "node-1"), ("far", "node-2"), ("both", "")] {
        let pull = pull_manifest(name, &model(&fleet, name));
        let selector = format!("spec: {{nodeSelector: {{matchLabels: {{node: {place}}}}}, ");
        fleet.apply(&if place.is_empty() { pull } else { pull.replace("spec: {", &selector) }).await;
    }
    for name in ["small", "big", "far", "both"] {
        fleet.wait_ready("mpull", name).await;
        fleet.until_served(&model(&fleet, name)).await;
    }
    fleet
}

fn model(fleet: &Fleet, name: &str) -> String {
    fleet.model(&format!("drover/{name}:1"))
}

/// A step whose answer is cut, and so doesn't keep to the request's schema.
fn cut(fleet: &Fleet, name: &str) -> Value {
    json!({ "target": { "model": model(fleet, name) }, "parameters": { "num_predict": 1 }, "force": true })
}

fn step(fleet: &Fleet, name: &str) -> Value {
    json!({ "target": { "model": model(fleet, name) } })
}

fn chain(name: &str, steps: &[Value]) -> String {
    let metadata = json!({ "name": name });
    let kind = json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "FallbackChain", "metadata": metadata, "spec": { "steps": steps } });
    format!("---\n{kind}\n")
}

/// What a caller sees of an answer by a chain, and the record of it.
struct Asked {
    status: u16,
    model: String,
    record: Value,
}

/// Asks for JSON by a chain's name.
async fn ask(fleet: &Fleet, gateway: usize, name: &str) -> Asked {
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
    let body = json!({ "model": name, "messages": [{ "role": "user", "content": "?" }], "format": schema,
        "options": { "seed": 1, "num_predict": 64 } });
    let url = &fleet.gateway_urls[gateway];
    let answer = fleet.http.post(format!("{url}/api/chat")).json(&body).send().await.expect("an answer");
    let header = |name: &str| answer.headers().get(name).map_or("", |value| value.to_str().expect("text")).to_owned();
    let (status, model, run) = (answer.status().as_u16(), header("x-drover-model"), header("x-drover-run-id"));
    // Its end comes when it is recorded.
    let _ = answer.text().await.expect("all of it");
    let record = fleet.http.get(format!("{url}/drover/v1/runs/{run}")).send().await.expect("a record");
    Asked { status, model, record: record.json().await.expect("JSON") }
}

impl Asked {
    /// Node, model and outcome of each attempt.
    fn attempts(&self) -> Vec<[&str; 3]> {
        let attempts = self.record["attempts"].as_array().map(Vec::as_slice).unwrap_or_default();
        attempts
            .iter()
            .map(|attempt| ["node", "target", "outcome"].map(|field| attempt[field].as_str().unwrap_or_default()))
            .collect()
    }

    fn resolved_for(&self) -> &str {
        self.record["resolved"]["reason"].as_str().unwrap_or_default()
    }
}

/// Waits until both gateways answer by a chain in this many attempts.
async fn until_served(fleet: &Fleet, name: &str, attempts: usize) {
    fleet.until("fchain", name, "valid", |status| condition(status, "Valid", "True")).await;
    for gateway in [0, 1] {
        eventually(&format!("gateway {gateway} serves {name}"), SOON, async || {
            let asked = ask(fleet, gateway, name).await;
            if asked.status == 200 && asked.attempts().len() == attempts { Ok(()) } else { Err(asked.record) }
        })
        .await;
    }
}

async fn chains_stand_edits_and_lost_nodes_and_go_on_to_a_provider(server: Server) {
    let mut fleet = fleet(server).await;
    a_provider_is_a_step(&fleet).await;
    each_request_sees_one_version_of_an_edited_chain(&fleet).await;
    a_node_is_lost_between_steps(&mut fleet).await;
}

/// The second node's own OpenAI API as a provider: what a node of ours could not answer well is answered there.
async fn a_provider_is_a_step(fleet: &Fleet) {
    let far = model(fleet, "far");
    let spec = json!({ "url": format!("{}/v1", fleet.nodes[1].url()), "models": [{ "name": far }] });
    let provider =
        json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "Provider", "metadata": { "name": "own" }, "spec": spec });
    let away = json!({ "target": { "provider": { "name": "own", "model": far } } });
    fleet.apply(&format!("{provider}\n{}", chain("mixed", &[cut(fleet, "small"), away]))).await;
    until_served(fleet, "mixed", 2).await;
    let asked = ask(fleet, 0, "mixed").await;
    let (tag, small) = (format!("provider/own/{far}"), model(fleet, "small"));
    assert_eq!(asked.model, tag);
    assert_eq!(
        asked.attempts(),
        [["node-1", &small, "SchemaFailure"], ["provider/own", &tag, "Answered"]],
        "{}",
        asked.record
    );
}

/// The chain of an edit, and the models of its attempts: of one edit and the next no step is the same.
fn edited(fleet: &Fleet, edit: usize) -> (String, [String; 2]) {
    let names = if edit.is_multiple_of(2) { ["small", "far"] } else { ["both", "big"] };
    (chain("edited", &[cut(fleet, names[0]), step(fleet, names[1])]), names.map(|name| model(fleet, name)))
}

async fn each_request_sees_one_version_of_an_edited_chain(fleet: &Fleet) {
    let versions = [edited(fleet, 0).1, edited(fleet, 1).1];
    fleet.apply(&edited(fleet, 0).0).await;
    until_served(fleet, "edited", 2).await;
    let is_over = AtomicBool::new(false);
    let caller = async |gateway: usize| {
        let mut seen = [0, 0];
        while !is_over.load(Ordering::Relaxed) {
            let asked = ask(fleet, gateway, "edited").await;
            assert_eq!(asked.status, 200, "{}", asked.record);
            let models: Vec<&str> = asked.attempts().iter().map(|[_, model, _]| *model).collect();
            let version = versions.iter().position(|version| models == *version);
            seen[version.unwrap_or_else(|| panic!("of no version of the chain: {}", asked.record))] += 1;
            assert!(asked.resolved_for().starts_with("chain edited, step 2 of 2: "), "{}", asked.record);
        }
        seen
    };
    let edits = async {
        for edit in 1..=EDITS {
            fleet.apply(&edited(fleet, edit).0).await;
        }
        is_over.store(true, Ordering::Relaxed);
    };
    let callers = join_all((0..2 * CALLERS).map(|number| caller(number % 2)));
    let (seen, ()) = tokio::join!(callers, edits);
    for gateway in [0, 1] {
        let of = |version: usize| seen.iter().skip(gateway).step_by(2).map(|seen| seen[version]).sum::<u32>();
        assert!(of(0) > 0 && of(1) > 0, "gateway {gateway} served both: {seen:?}");
    }
}

/// While its first step is under way, the node of the second one is killed: another node that has the model answers, and where
/// there is none, the third step.
async fn a_node_is_lost_between_steps(fleet: &mut Fleet) {
    let other = chain("other", &[cut(fleet, "small"), step(fleet, "both")]);
    let left = chain("left", &[cut(fleet, "small"), step(fleet, "far"), step(fleet, "big")]);
    fleet.apply(&(other + &left)).await;
    for name in ["other", "left"] {
        until_served(fleet, name, 2).await;
    }
    let lost = ["small", "both", "far", "big"].map(|name| model(fleet, name));
    let [small, both, far, big] = lost.each_ref().map(String::as_str);
    let nodes = std::mem::take(&mut fleet.nodes);
    let [mut first, mut second]: [_; 2] = nodes.try_into().unwrap_or_else(|_| panic!("two nodes"));

    first.process().pause();
    let kill = async {
        for gateway in [0, 1] {
            under_way(fleet, gateway).await;
        }
        second.kill9();
        first.process().resume();
    };
    let (by_other, by_next, ()) = tokio::join!(ask(fleet, 0, "other"), ask(fleet, 1, "left"), kill);
    fleet.nodes = vec![first, second];

    assert_eq!((by_other.status, by_other.model.as_str()), (200, both), "{}", by_other.record);
    let cut_off = [["node-1", small, "SchemaFailure"], ["node-2", both, "Failed"], ["node-1", both, "Answered"]];
    assert_eq!(by_other.attempts(), cut_off, "{}", by_other.record);
    assert!(by_other.resolved_for().starts_with("chain other, step 2 of 2: "), "{}", by_other.record);
    assert_eq!((by_next.status, by_next.model.as_str()), (200, big), "{}", by_next.record);
    let skipped = [["node-1", small, "SchemaFailure"], ["node-2", far, "Failed"], ["node-1", big, "Answered"]];
    assert_eq!(by_next.attempts(), skipped, "{}", by_next.record);
    assert!(by_next.resolved_for().starts_with("chain left, step 3 of 3: "), "{}", by_next.record);
    for record in [&by_other.record, &by_next.record] {
        let why = record["attempts"][1]["reason"].as_str().unwrap_or_default();
        assert!(why.contains("onnect"), "the node is gone: {record}");
    }
}

/// Waits until a gateway has a request under way.
async fn under_way(fleet: &Fleet, gateway: usize) {
    eventually("a request is under way", SOON, async || {
        let text = fleet.gateways[gateway].metrics().await;
        let count = text.lines().find_map(|line| line.strip_prefix("drover_gateway_in_flight_requests "));
        if count == Some("1") { Ok(()) } else { Err(format!("{count:?}")) }
    })
    .await;
}
