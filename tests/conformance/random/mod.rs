//! Random requests to both: the answers must be the same, and what watchers see of them. A difference is shrunk to the
//! fewest requests that show it.

mod service;
mod step;

use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestRunner},
};
use serde_json::{Value, json};

use crate::{
    requests::namespace,
    sides::{Side, clean, difference, embedded, normal, real, scenario},
};
use step::Step;

/// How many sequences are tried, the same ones each time; `DROVER_CASES` asks for so many new ones.
const CASES: u32 = 40;
const SEED: u64 = 1;
const STEPS: usize = 12;

/// A kind that is asked about.
#[derive(Clone, Copy)]
struct Subject {
    group: &'static str,
    plural: &'static str,
    /// Makes the last object, which nothing else is made like.
    last: fn() -> Value,
}

#[test]
fn random_requests_are_answered_the_same() {
    let deployments = Subject { group: "apis/drover.dev/v1alpha1", plural: "modeldeployments", last: step::last };
    try_many(deployments, step::step());
}

#[test]
fn random_requests_about_services_are_answered_the_same() {
    try_many(Subject { group: "api/v1", plural: "services", last: service::last }, service::step());
}

fn try_many(subject: Subject, step: impl Strategy<Value = Step>) {
    let asked = std::env::var("DROVER_CASES").ok().map(|cases| cases.parse().expect("DROVER_CASES is a number"));
    let config = ProptestConfig {
        cases: asked.unwrap_or(CASES),
        rng_seed: if asked.is_some() { RngSeed::Random } else { RngSeed::Fixed(SEED) },
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let sequences = proptest::collection::vec(step, 1..STEPS);
    let outcome = TestRunner::new(config).run(&sequences, |steps| {
        let mut difference = None;
        scenario(|| async { difference = tried(subject, &steps).await });
        prop_assert!(difference.is_none(), "{}", difference.unwrap_or_default());
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// Sends the requests to both; the first difference.
async fn tried(subject: Subject, steps: &[Step]) -> Option<String> {
    let sides = [real().await, embedded().await];
    let namespace = namespace(&sides).await;
    let collection = format!("/{}/namespaces/{namespace}/{}", subject.group, subject.plural);
    let [real, embedded] = sides.each_ref().map(|side| revision(side, &collection));
    let begin = [real.await, embedded.await];
    for (index, step) in steps.iter().enumerate() {
        let [real, embedded] = sides.each_ref().map(|side| step.send(side, &collection));
        let (real, embedded) = tokio::join!(real, embedded);
        let [real, embedded] = [&real, &embedded].map(|answer| {
            let mut answer = normal(answer);
            clean(&mut answer.body);
            answer
        });
        if real != embedded {
            let place = difference(&real.body, &embedded.body).unwrap_or_default();
            let [real, embedded] =
                [real, embedded].map(|answer| format!("{} {:?} {}", answer.code, answer.warnings, answer.body));
            return Some(format!("step {index}: {step:?}\nreal     {real}\nembedded {embedded}\n{place}"));
        }
    }
    for query in ["", "&labelSelector=x%3D1", "&labelSelector=%21y", "&fieldSelector=metadata.name%21%3Da"] {
        for form in ["", "meta:"] {
            let watched = [0, 1].map(|at| watched(&sides[at], form, &collection, &begin[at], query, (subject.last)()));
            let [real, embedded] = watched;
            let (real, embedded) = tokio::join!(real, embedded);
            if let Some(place) = difference(&real, &embedded) {
                return Some(format!("watch {form}{query}{place}\nreal     {real}\nembedded {embedded}"));
            }
        }
    }
    None
}

async fn revision(side: &Side, collection: &str) -> String {
    let list = side.ask("GET", collection, &Value::Null).await;
    list.body["metadata"]["resourceVersion"].as_str().expect("a revision").to_owned()
}

/// What a watcher with these selectors sees of the changes since a revision. A last object, which it sees too, tells
/// when that is all.
async fn watched(side: &Side, form: &str, collection: &str, since: &str, query: &str, mut last: Value) -> Value {
    const LAST: &str = "last";
    last["metadata"] = json!({ "name": LAST, "labels": { "x": "1" } });
    side.ask("POST", collection, &last).await;
    let path = format!("{form}{collection}?watch=true&resourceVersion={since}{query}");
    let mut events = side.events(&path, |event| event["object"]["metadata"]["name"] == LAST).await;
    clean(&mut events);
    events
}
