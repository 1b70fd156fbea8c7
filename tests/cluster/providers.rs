//! Providers: from a Secret to answers, in a canary beside a version that nodes serve, and back.

use std::{fs, path::Path};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header::AUTHORIZATION},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{
    fleet::{Fleet, deployment_manifest, pull_manifest, version_manifest},
    namespace::{SOON, condition},
    support::{Scratch, eventually, gguf::TinyLlama, http_client, kube_api::Server},
    world::on_both_apis,
};

/// What must not be seen anywhere.
const KEY: &str = "sk-of-the-cluster-test-0815";

on_both_apis! {
    a_provider_answers_while_its_key_is_there,
    a_canary_may_be_a_providers_model,
}

/// An OpenAI-compatible server that wants a key: a real Ollama server behind a door.
async fn keyed(server: String) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let router = Router::new().fallback(door).with_state((server, http_client()));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn door(State((server, http)): State<(String, reqwest::Client)>, request: Request) -> Response {
    let given = request.headers().get(AUTHORIZATION).and_then(|given| given.to_str().ok()).unwrap_or_default();
    if given != format!("Bearer {KEY}") {
        let message = json!({ "error": { "message": format!("Incorrect API key provided: {given}") } });
        return (StatusCode::UNAUTHORIZED, axum::Json(message)).into_response();
    }
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    let asked = http.request(parts.method, format!("{server}{}", parts.uri)).body(body);
    let answer = asked.header("content-type", "application/json").send().await.expect("the server answers");
    let mut response = Response::builder().status(answer.status());
    response = response.header("content-type", answer.headers()["content-type"].clone());
    response.body(Body::from_stream(answer.bytes_stream())).expect("an answer")
}

fn provider_manifest(url: &str, models: &[&str]) -> String {
    let models: Vec<Value> = models.iter().map(|name| json!({ "name": name })).collect();
    format!(
        "apiVersion: drover.dev/v1alpha1\nkind: Provider\nmetadata: {{name: far}}\n\
         spec: {{url: '{url}', apiKeySecretRef: {{name: far}}, checkInterval: 1s, models: {}}}\n",
        json!(models)
    )
}

fn ready(status: &Value) -> &Value {
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().find(|condition| condition["type"] == "Ready").unwrap_or(&Value::Null)
}

/// Puts a key into the Secret, and where the first gateway has it mounted.
async fn put_key(fleet: &Fleet, keys: &Path, key: &str) {
    let literal = format!("--from-literal=api-key={key}");
    fleet.kubectl(&["create", "secret", "generic", "far", &literal]).await;
    let dir = keys.join(&fleet.name).join("far");
    fs::create_dir_all(&dir).expect("a folder");
    fs::write(dir.join("api-key"), format!("{key}\n")).expect("a key");
}

/// A fleet whose first node has `drover/alpha:1`, and whose first gateway has the keys of providers in a folder.
async fn fleet(server: Server, keys: &Path) -> Fleet {
    let mut fleet = Fleet::start(server, &[("drover/alpha", "1", TinyLlama::new(61).says("one"))]).await;
    fleet.apply(&pull_manifest("one", &fleet.model("drover/alpha:1"))).await;
    fleet.wait_ready("mpull", "one").await;
    let dir = keys.display().to_string();
    fleet.gateways[0].restart_with(&[("DROVER_PROVIDER_KEYS_DIR", &dir)]).await;
    fleet
}

/// Everything that is written down of a fleet's provider.
async fn written(fleet: &mut Fleet) -> String {
    let mut all = fleet.kubectl(&["get", "prov,mver,mdep,events", "-o", "json"]).await;
    for process in [&mut fleet.controller, &mut fleet.gateways[0]] {
        all += &process.metrics().await;
        all += &process.process().log();
    }
    let url = &fleet.gateway_urls[0];
    for path in ["/drover/v1/runs?limit=50&capture=true", "/drover/v1/stats", "/api/tags"] {
        all += &fleet.http.get(format!("{url}{path}")).send().await.expect("an answer").text().await.expect("text");
    }
    all
}

async fn a_provider_answers_while_its_key_is_there(server: Server) {
    let keys = Scratch::new();
    let mut fleet = fleet(server, keys.path()).await;
    let tag = fleet.model("drover/alpha:1");
    let url = keyed(fleet.nodes[0].url()).await;
    fleet.apply(&provider_manifest(&url, &[&tag, "not-there"])).await;
    let keyless = fleet.until("prov", "far", "has no key", |s| ready(s)["reason"] == "NoKey").await;
    let message = ready(&keyless["status"])["message"].as_str().expect("a message").to_owned();
    assert!(message.contains("kubectl create secret generic far"), "{message}");
    assert!(condition(&keyless["status"], "Stalled", "True"));

    put_key(&fleet, keys.path(), "wrong").await;
    fleet.until("prov", "far", "has a wrong key", |s| ready(s)["reason"] == "KeyRefused").await;
    let model = format!("provider/far/{tag}");
    let refused = fleet.chat(0, &model).await;
    assert_eq!(refused.status(), 503);
    let text = refused.text().await.expect("text");
    assert!(text.contains("refuses the key"), "{text}");

    fleet.kubectl(&["delete", "secret", "far"]).await;
    put_key(&fleet, keys.path(), KEY).await;
    fleet.wait_ready("prov", "far").await;
    let status = fleet.get("prov", "far").await["status"].clone();
    assert_eq!((&status["origin"], &status["modelCount"]), (&json!("Custom"), &json!(2)));
    assert_eq!(status["keySource"], "Secret far, key api-key");
    assert!(ready(&status)["message"].as_str().is_some_and(|text| text.contains("lacks not-there")), "{status}");
    let answers = async || {
        let answer = fleet.chat(0, &model).await;
        if answer.status() == 200 { Ok(answer) } else { Err(answer.text().await.unwrap_or_default()) }
    };
    let answer = eventually("the gateway asks the provider", SOON, answers).await;
    assert_eq!(answer.headers()["x-drover-node"], "provider/far");
    assert_eq!(answer.headers()["x-drover-model"], model.as_str());
    let body: Value = answer.json().await.expect("JSON");
    assert!(body["message"]["content"].as_str().is_some_and(|text| text.contains("one")), "{body}");
    // The other gateway has no keys mounted, and says so.
    let other = async || {
        let text = fleet.chat(1, &model).await.text().await.expect("text");
        if text.contains("provider-keys-dir") { Ok(()) } else { Err(text) }
    };
    eventually("the other gateway has no key", SOON, other).await;
    let listed = fleet.drover(&["providers", "list", "-n", &fleet.name]).await.expect("a list");
    assert!(listed.contains("far") && listed.contains("Custom") && listed.contains("CataloguedWithoutKey"), "{listed}");
    let health = format!("{}/health/models", fleet.controller.health_url());
    let healthy = async || {
        let report: Value =
            fleet.http.get(&health).send().await.map_err(|e| e.to_string())?.json().await.expect("JSON");
        let provider = report["providers"][0].clone();
        if provider["reachable"] == true && provider["keyPresent"] == true { Ok(()) } else { Err(report.to_string()) }
    };
    eventually("/health/models knows the provider", SOON, healthy).await;

    // Nothing changes, nothing is written.
    let marker = fleet.api.marker().await;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let writes = fleet.writes_since(marker).await;
    let of_providers = writes.iter().filter(|write| write.resource.starts_with("providers")).count();
    assert_eq!(of_providers, 0, "four checks without a difference");

    fleet.kubectl(&["delete", "secret", "far"]).await;
    fleet.until("prov", "far", "has lost its key", |s| ready(s)["reason"] == "NoKey").await;
    let gone = async || {
        let answer = fleet.chat(0, &model).await;
        if answer.status() == 503 { Ok(()) } else { Err(answer.text().await.unwrap_or_default()) }
    };
    eventually("no request goes there", SOON, gone).await;
    let written = written(&mut fleet).await;
    assert!(written.contains("provider/far"), "the runs are among it: {written}");
    let seen = written.find(KEY).map(|at| &written[at.saturating_sub(200)..at]);
    assert_eq!(seen, None, "the key is written behind this");
    let table = fs::read_to_string(fleet.scratch().join("gateway-1/routing-table.json")).expect("a table");
    assert!(table.contains("far") && !table.contains(KEY));
}

async fn a_canary_may_be_a_providers_model(server: Server) {
    let keys = Scratch::new();
    let fleet = fleet(server, keys.path()).await;
    let tag = fleet.model("drover/alpha:1");
    put_key(&fleet, keys.path(), KEY).await;
    fleet.apply(&provider_manifest(&keyed(fleet.nodes[0].url()).await, &[&tag])).await;
    fleet.wait_ready("prov", "far").await;
    fleet.apply(&version_manifest("v1.0.0", &tag)).await;
    fleet.apply(&deployment_manifest("v1.0.0", "1h")).await;
    fleet.wait_ready("mdep", "bot").await;
    let source = format!("{{provider: {{name: far, model: '{tag}'}}}}");
    let of_provider = |version: &str| version_manifest(version, "x").replace("{ollama: {tag: 'x'}}", &source);
    fleet.apply(&of_provider("v1.1.0")).await;
    fleet.wait_ready("mver", "bot-v1.1.0").await;
    fleet.apply(&deployment_manifest("v1.1.0", "1h")).await;
    fleet.until("mdep", "bot", "a canary", |s| s["canary"]["weight"] == 20).await;
    let model = format!("provider/far/{tag}");
    let mut answered = [0, 0];
    eventually("both sides answer", SOON, async || {
        let answer = fleet.chat(0, "bot").await;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let text = answer.text().await.expect("text");
        assert!(status.is_success(), "{text}");
        let header = |name: &str| headers[name].to_str().expect("text").to_owned();
        let is_trial = header("x-drover-version") != "v1.0.0";
        if is_trial {
            assert_eq!((header("x-drover-model"), header("x-drover-node")), (model.clone(), "provider/far".into()));
        } else {
            assert!(header("x-drover-digest").starts_with("sha256:"));
        }
        answered[usize::from(is_trial)] += 1;
        if answered.iter().all(|count| *count > 1) { Ok(()) } else { Err(format!("{answered:?}")) }
    })
    .await;

    fleet.drover(&["rollout", "undo", "bot", "-n", &fleet.name]).await.expect("undo");
    let back = fleet.until("mdep", "bot", "rolled back", |s| s["phase"] == "Degraded").await;
    assert_eq!(back["status"]["rejected"]["digest"], model.as_str());
    assert_eq!(back["status"]["stable"]["version"], "v1.0.0");

    // All the way: the provider's model has all requests, and the way back is kept.
    let at_once = deployment_manifest("v1.2.0", "1h");
    let at_once = at_once.split("strategy:").next().expect("a beginning").to_owned() + "strategy: {immediate: {}}}\n";
    fleet.apply(&of_provider("v1.2.0")).await;
    fleet.apply(&at_once).await;
    let live = fleet.until("mdep", "bot", "v1.2.0 serves", |s| s["phase"] == "Healthy").await;
    assert_eq!(live["status"]["stable"]["tag"], model.as_str());
    fleet.until("mver", "bot-v1.2.0", "deployed", |s| s["lifecycle"] == "Deployed").await;
    fleet.kubectl(&["delete", "secret", "far"]).await;
    fleet.until("mver", "bot-v1.2.0", "can't serve", |s| ready(s)["reason"] == "ProviderNotUsable").await;
    fleet.drover(&["rollout", "undo", "bot", "-n", &fleet.name]).await.expect("undo");
    let answers = async || {
        let answer = fleet.chat(0, "bot").await;
        if answer.headers().get("x-drover-version").is_some_and(|version| version == "v1.0.0") && answer.status() == 200
        {
            Ok(())
        } else {
            Err(answer.text().await.unwrap_or_default())
        }
    };
    eventually("the version before answers again", SOON, answers).await;
}
