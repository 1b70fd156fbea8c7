//! Catalogues, profiles, chains and workers, from `kubectl apply` to what their status says and what a request gets.

use serde_json::{Value, json};

use crate::{
    fleet::{Fleet, pull_manifest},
    namespace::{SOON, condition},
    support::{eventually, gguf::TinyLlama, http_client, kube_api::Server},
    world::on_both_apis,
};

on_both_apis! {
    names_are_resolved_shown_and_served,
}

const MANIFEST: &str = r#"
apiVersion: drover.dev/v1alpha1
kind: ModelCatalog
metadata: {name: ours}
spec:
  defaults: {fast: "SMALL", chat: "SMALL"}
  entries: [{pattern: "small*", parameters: 1B, tags: [tiny]}, {pattern: "big*", parameters: 8B, contextLength: 512}]
---
apiVersion: drover.dev/v1alpha1
kind: RoutingProfile
metadata: {name: best}
spec: {capabilities: [chat], overrides: ["nowhere:1"]}
---
apiVersion: drover.dev/v1alpha1
kind: FallbackChain
metadata: {name: extract}
spec:
  steps:
    - {target: {model: "SMALL"}, leaveOn: [SchemaFailure], parameters: {num_predict: 3}, force: true}
    - {target: {profile: best}}
---
apiVersion: drover.dev/v1alpha1
kind: FallbackChain
metadata: {name: circle}
spec: {steps: [{target: {worker: round}}]}
---
apiVersion: drover.dev/v1alpha1
kind: Worker
metadata: {name: round}
spec: {model: chain/circle}
---
apiVersion: drover.dev/v1alpha1
kind: Worker
metadata: {name: docs}
spec: {model: "auto:fast"}
---
apiVersion: drover.dev/v1alpha1
kind: Worker
metadata: {name: sharp}
spec: {model: "auto:fast", capabilities: [vision]}
"#;

/// The reason and the message of a condition.
fn said<'a>(status: &'a Value, type_: &str) -> (&'a str, &'a str) {
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == type_).unwrap_or(&Value::Null);
    (found["reason"].as_str().unwrap_or_default(), found["message"].as_str().unwrap_or_default())
}

/// The `drover` command line in the fleet's namespace.
async fn drover(fleet: &Fleet, arguments: &[&str]) -> Result<String, String> {
    fleet.drover(&[arguments, &["-n", &fleet.name]].concat()).await
}

/// A fleet that has a small and a big model, and everything of [`MANIFEST`] in it.
async fn fleet(server: Server) -> Fleet {
    let small = TinyLlama::new(1).says("{\"n\": 1, \"words\": \"one two three\"}");
    let big = TinyLlama::new(2).says("{\"n\": 2}");
    let fleet = Fleet::start(server, &[("drover/small", "v1", small), ("drover/big", "v1", big)]).await;
    for (name, model) in [("small", "drover/small:v1"), ("big", "drover/big:v1")] {
        fleet.apply(&pull_manifest(name, &fleet.model(model))).await;
        fleet.until_served(&fleet.model(model)).await;
    }
    fleet.apply(&MANIFEST.replace("SMALL", &fleet.model("drover/small:v1"))).await;
    fleet
}

async fn names_are_resolved_shown_and_served(server: Server) {
    let fleet = fleet(server).await;
    let (small, big) = (fleet.model("drover/small:v1"), fleet.model("drover/big:v1"));

    let best = fleet.until("rprof", "best", "chosen", |status| status["chosen"] == big.as_str()).await;
    let (reason, message) = said(&best["status"], "Ready");
    assert_eq!((reason, message.contains("override nowhere:1: there is no such model")), ("Chosen", true), "{message}");
    fleet
        .until("fchain", "extract", "valid", |status| {
            condition(status, "Valid", "True") && status["availableSteps"] == 2
        })
        .await;
    // Until all of the circle is there, another reason is as true.
    let is_round = |status: &Value| said(status, "Valid").0 == "Cycle";
    let circle = fleet.until("fchain", "circle", "refused", is_round).await;
    assert!(condition(&circle["status"], "Valid", "False"), "{circle}");
    let message = said(&circle["status"], "Valid").1;
    assert!(message.contains("circle -> circle"), "{message}");
    let docs = fleet.until("wrk", "docs", "resolved", |status| status["resolvedModel"] == small.as_str()).await;
    let is_blind =
        |status: &Value| condition(status, "Ready", "False") && said(status, "Ready").1.contains("it lacks vision");
    fleet.until("wrk", "sharp", "unresolvable for what it needs", is_blind).await;
    fleet.until("mcat", "ours", "in effect", |status| condition(status, "Ready", "True")).await;
    answers_escalate(&fleet, &big).await;
    workers_are_set_and_reset(&fleet, docs["status"]["fingerprint"].as_str().unwrap_or_default(), &small, &big).await;
    names_clash(&fleet).await;
}

/// A real answer that num_predict cuts doesn't keep to its schema: the big model answers.
async fn answers_escalate(fleet: &Fleet, big: &str) {
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
    let asked = json!({ "model": "extract", "messages": [{ "role": "user", "content": "?" }], "format": schema,
        "options": { "seed": 1, "num_predict": 64 } });
    let answer = eventually("the chain is served", SOON, async || {
        let answer = http_client()
            .post(format!("{}/api/chat", fleet.gateway_urls[0]))
            .json(&asked)
            .send()
            .await
            .expect("an answer");
        if answer.status() == 200 { Ok(answer) } else { Err(answer.text().await.unwrap_or_default()) }
    })
    .await;
    let header = |name: &str| {
        answer.headers().get(name).map(|value| value.to_str().expect("text").to_owned()).unwrap_or_default()
    };
    assert_eq!((header("x-drover-model").as_str(), header("x-drover-attempts").as_str()), (big, "2"));
    assert_eq!(header("x-drover-schema-failure"), "");
    let run = header("x-drover-run-id");
    let text = answer.text().await.expect("text");
    let said: String = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|line| line["message"]["content"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert!(serde_json::from_str::<Value>(&said).expect("JSON")["n"].is_number(), "{said}");
    let record =
        http_client().get(format!("{}/drover/v1/runs/{run}", fleet.gateway_urls[0])).send().await.expect("a record");
    let record: Value = record.json().await.expect("JSON");
    assert_eq!(
        (&record["attempts"][0]["outcome"], &record["attempts"][0]["reason"]),
        (&json!("SchemaFailure"), &json!("cut by its length")),
        "{record}"
    );

    let tried = drover(fleet, &["chain", "try", "extract", "--fail", "1=SchemaFailure"]).await.expect("it tries");
    assert!(tried.contains("fails: SchemaFailure") && tried.contains("the request is answered"), "{tried}");
    let told = drover(fleet, &["chain", "try", "circle"]).await.expect_err("it is refused");
    assert!(told.contains("Cycle"), "{told}");
}

async fn workers_are_set_and_reset(fleet: &Fleet, fingerprint: &str, small: &str, big: &str) {
    assert_eq!(fingerprint.len(), 16);
    let refused = drover(fleet, &["workers", "set-model", "docs", "worker/doc"]).await.expect_err("no such worker");
    assert!(refused.contains("did you mean worker/docs"), "{refused}");
    drover(fleet, &["workers", "set-model", "docs", big, "--policy", "Static"]).await.expect("it is set");
    let is_set =
        |status: &Value| status["resolvedModel"] == big && status["override"] == big && status["policy"] == "Static";
    let set = fleet.until("wrk", "docs", "set", is_set).await;
    assert_ne!(set["status"]["fingerprint"], fingerprint);
    let listed = drover(fleet, &["workers", "list"]).await.expect("a list");
    assert!(listed.contains("docs") && listed.contains(big) && listed.contains("it lacks vision"), "{listed}");
    drover(fleet, &["workers", "reset", "docs"]).await.expect("it is reset");
    fleet
        .until("wrk", "docs", "reset", |status| {
            status["resolvedModel"] == small && status["fingerprint"] == fingerprint
        })
        .await;

    drover(fleet, &["catalog", "set-default", "fast", big, "--catalog", "ours"]).await.expect("a default");
    fleet.until("wrk", "docs", "followed", |status| status["resolvedModel"] == big).await;
    let known = drover(fleet, &["catalog", "lookup", "qwen2.5-coder:7b"]).await.expect("it is known");
    assert!(known.contains("qwen-coder") && known.contains("32768 tokens"), "{known}");
    let models = drover(fleet, &["models", "--tags"]).await.expect("models");
    assert!(models.contains("tiny") && models.contains("auto:fast"), "{models}");
}

async fn names_clash(fleet: &Fleet) {
    let worker =
        "apiVersion: drover.dev/v1alpha1\nkind: Worker\nmetadata: {name: extract}\nspec: {model: 'auto:fast'}\n";
    fleet.apply(worker).await;
    fleet.until("wrk", "extract", "a clash", |status| condition(status, "NameClash", "True")).await;
}
