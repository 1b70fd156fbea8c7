//! Profiles, chains and `auto:`: how long the table takes, and how long a request takes to find its models in it.

use std::{hint::black_box, sync::Arc, time::Instant};

use drover::{
    domain::model_db::Capabilities,
    gateway::{
        callers::Caller,
        resolve::{Found, resolve},
    },
    routing_table::compile::{Objects, compile},
};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::table::{Table, median};

const MODELS: usize = 1000;
const OBJECTS: usize = 200;
const TABLES: usize = 20;
const REQUESTS: usize = 100_000;
/// Microseconds for 99 of 100 requests.
const RESOLVE_GOAL: f64 = 20.0;
/// Milliseconds.
const COMPILE_GOAL: f64 = 50.0;

pub fn run(table: &mut Table) {
    let objects = objects();
    let compiles = (0..TABLES).map(|_| {
        let began = Instant::now();
        black_box(compile(&objects, Timestamp::UNIX_EPOCH));
        began.elapsed().as_secs_f64() * 1000.0
    });
    let took = median(&compiles.collect::<Vec<_>>());
    let what = format!("table of {MODELS} models, {OBJECTS} profiles, {OBJECTS} chains: at most {COMPILE_GOAL} ms");
    table.goal(what, format!("{took:.1} ms"), took <= COMPILE_GOAL);

    let compiled = compile(&objects, Timestamp::UNIX_EPOCH);
    let (namespace, caller) = (compiled.namespace("default"), Caller::default());
    let names: Vec<String> = (0..OBJECTS)
        .flat_map(|number| [format!("profile/p{number}"), format!("chain/c{number}"), "auto:fast".into()])
        .collect();
    let mut times: Vec<f64> = (0..REQUESTS)
        .map(|number| {
            let name = &names[number % names.len()];
            let began = Instant::now();
            let Ok(Found::Routed(routed)) = resolve(namespace, name, &caller) else {
                panic!("{name} stands for something")
            };
            let ways = namespace.directory.ways(&routed.pointer(), Capabilities::NONE, |_| None);
            black_box(ways.expect("a model"));
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let (half, most) = (times[REQUESTS / 2], times[REQUESTS * 99 / 100]);
    let what = format!("finding the models of a profile, a chain or auto:fast in it: 99 % within {RESOLVE_GOAL} µs");
    table.goal(what, format!("{half:.1} µs, 99 % within {most:.1} µs"), most <= RESOLVE_GOAL);
}

fn objects() -> Objects {
    let families = ["llama3.1", "qwen2.5", "gemma2", "qwen2.5-coder", "llava"];
    let models: Vec<Value> = (0..MODELS)
        .map(|number| {
            let name = format!("{}:{}b-n{number}", families[number % families.len()], number % 70 + 1);
            json!({ "name": name, "digest": format!("sha256:{number:064x}"), "sizeBytes": 1 })
        })
        .collect();
    let ready = json!([{ "type": "Ready", "status": "True", "reason": "Answering", "message": "",
        "lastTransitionTime": "2026-11-20T20:00:00Z" }]);
    let node = json!({ "version": "0.17.4", "models": models, "conditions": ready });
    let mut objects =
        Objects { nodes: vec![object("OllamaNode", "n1", json!({ "url": "http://n1" }), node)], ..Objects::default() };
    for number in 0..OBJECTS {
        let objective = ["quality", "latency", "cost"][number % 3];
        let needs = json!({ "capabilities": ["chat"], "minContext": 4096 + number, "families": ["qwen", "llama"],
            "maxParameters": "40B", "objective": objective });
        // Of one family, and never of the last, which alone sees images: what the first step can, all have to.
        let index = number * families.len() + number % (families.len() - 1);
        let model =
            |at: usize| json!({ "target": { "model": models[(index + at * families.len()) % MODELS]["name"] } });
        let steps = json!({ "steps": [model(0), model(1), { "target": { "profile": format!("p{number}") } }] });
        objects.profiles.push(object("RoutingProfile", &format!("p{number}"), needs, json!(null)));
        objects.chains.push(object("FallbackChain", &format!("c{number}"), steps, json!(null)));
    }
    objects
}

/// An object in the namespace `default`.
pub fn object<K: DeserializeOwned>(kind: &str, name: &str, spec: Value, status: Value) -> Arc<K> {
    let metadata = json!({ "name": name, "namespace": "default" });
    let mut object = json!({ "apiVersion": "drover.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec });
    if !status.is_null() {
        object["status"] = status;
    }
    Arc::new(serde_json::from_value(object).expect("an object"))
}
