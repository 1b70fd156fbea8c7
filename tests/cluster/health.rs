//! What load balancers, deploy scripts and Prometheus are told about a fleet.

use std::{
    collections::BTreeMap,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use drover::{
    api::{ModelPull, OllamaNode},
    health::{FleetHealth, Objects, Snapshot},
};
use http::StatusCode;
use regex::Regex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    fleet::{Fleet, pull_manifest},
    namespace::SOON,
    support::{drover::program, eventually, free_port, gguf::TinyLlama, kube_api::Server},
    world::on_both_apis,
};

const MIB: u64 = 1 << 20;

/// What a finished command left.
struct Ended {
    status: ExitStatus,
    stderr: String,
    json: Option<Value>,
    took: Duration,
}

on_both_apis! {
    health_and_waits_follow_what_nodes_really_hold,
    metrics_can_be_read_by_prometheus_and_move,
}

async fn health_and_waits_follow_what_nodes_really_hold(server: Server) {
    let mut fleet = Fleet::start(server, &[("drover/small", "1", TinyLlama::new(41).size(4 * MIB))]).await;
    let model = fleet.model("drover/small:1");
    nothing_is_required(&fleet).await;
    arrives_while_somebody_waits(&fleet, &model).await;
    let report = until_health(&fleet, 200, "healthy").await;
    let digest = fleet.registry.manifest_digest("drover/small", "1").await;
    let held = json!([{
        "namespace": fleet.name, "name": model, "digest": digest, "required": true, "nodes": ["node-1", "node-2"]
    }]);
    assert_eq!((&report["models"], &report["missing"], &report["providers"]), (&held, &json!([]), &json!([])));
    present_is_quick_and_quiet(&fleet).await;
    filters(&fleet).await;
    lost_behind_drovers_back(&fleet, &model).await;
    a_node_dies(&mut fleet).await;
    absent_is_late(&fleet).await;
    the_start_warns(&mut fleet, &model).await;
}

async fn nothing_is_required(fleet: &Fleet) {
    until_health(fleet, 200, "healthy").await;
    let waited = wait(fleet, &[]).await;
    assert_eq!(waited.status.code(), Some(0));
    let says = format!("no ModelPull in namespace {} is required", fleet.name);
    assert!(waited.stderr.contains(&says), "{}", waited.stderr);
    assert_eq!(waited.json.expect("JSON")["models"], json!([]));
}

async fn arrives_while_somebody_waits(fleet: &Fleet, model: &str) {
    fleet.front.limit_bandwidth(Some(2 * MIB));
    let (waited, ()) = tokio::join!(wait(fleet, &["small", "--timeout", "60s"]), async {
        fleet.apply(&required_manifest("small", model)).await;
        fleet.until("mpull", "small", "is seen", |status| status["phase"].is_string()).await;
    });
    fleet.front.limit_bandwidth(None);
    assert_eq!(waited.status.code(), Some(0), "{}", waited.stderr);
    let says = format!("there is no ModelPull small in namespace {}", fleet.name);
    assert!(waited.stderr.contains(&says), "{}", waited.stderr);
    assert!(waited.stderr.contains(&format!("small ({model}): on 2 of 2 nodes")), "{}", waited.stderr);
    assert!(waited.stderr.lines().count() < 40, "no flood: {}", waited.stderr);
    let outcome = waited.json.expect("JSON");
    let small = &outcome["models"][0];
    assert_eq!((&outcome["status"], &small["ready"], &small["readyNodes"]), (&json!("ready"), &json!(true), &json!(2)));
    assert_eq!((&small["name"], &small["model"]), (&json!("small"), &json!(model)));
    assert!(small["digest"].as_str().expect("a digest").starts_with("sha256:"));
}

async fn present_is_quick_and_quiet(fleet: &Fleet) {
    let (marker, mut times) = (fleet.api.marker().await, Vec::new());
    for arguments in [&[][..], &["small"], &["--selector", "!nobody"]] {
        let waited = wait(fleet, arguments).await;
        assert_eq!((waited.status.code(), waited.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert_eq!(waited.json.expect("JSON")["models"].as_array().map(Vec::len), Some(1), "{arguments:?}");
        times.push(waited.took);
    }
    // Other scenarios may hold up one of them.
    assert!(times.iter().min() < Some(&Duration::from_secs(1)), "{times:?}");
    let everywhere = drover(fleet, &["wait", "models", "-A", "-o", "none"]).await;
    assert_eq!((everywhere.status.code(), everywhere.json), (Some(0), None));
    let writes = fleet.writes_since(marker).await;
    assert!(writes.is_empty(), "{writes:?}");
}

/// The parameters of the path, and that an unchanged answer is not sent again.
async fn filters(fleet: &Fleet) {
    let url = format!("{}/health/models", fleet.controller.health_url());
    let get = async |query: &str| fleet.http.get(format!("{url}{query}")).send().await.expect("an answer");
    assert_eq!(
        get(&format!("?namespace={}", fleet.name)).await.json::<Value>().await.expect("JSON")["status"],
        "healthy"
    );
    assert_eq!(get("?namespace=nowhere").await.status(), 404);
    let summary = get("?summary").await.json::<Value>().await.expect("JSON");
    assert_eq!((&summary["counts"]["readyNodes"], &summary["nodes"]), (&json!(2), &Value::Null));
    let tag = get("").await.headers()["etag"].clone();
    let again = fleet.http.get(&url).header("if-none-match", tag).send().await.expect("an answer");
    assert_eq!(again.status(), 304);
}

async fn lost_behind_drovers_back(fleet: &Fleet, model: &str) {
    fleet.front.fail_with(Some(StatusCode::SERVICE_UNAVAILABLE));
    fleet.nodes[1].delete(model).await;
    let report = until_health(fleet, 200, "degraded").await;
    let missing = &report["missing"][0];
    assert_eq!((&missing["pull"], &missing["reason"]), (&json!("small"), &json!("NotOnAllNodes")));
    assert!(missing["message"].as_str().expect("a message").contains("node-2 lacks it"), "{missing}");

    fleet.nodes[0].delete(model).await;
    let report = until_health(fleet, 503, "unhealthy").await;
    let missing = &report["missing"][0];
    assert_eq!((&missing["name"], &missing["reason"]), (&json!(model), &json!("OnNoNode")));
    assert_eq!((&missing["required"], &report["models"]), (&json!(true), &json!([])));

    fleet.front.fail_with(None);
    until_health(fleet, 200, "healthy").await;
}

async fn a_node_dies(fleet: &mut Fleet) {
    fleet.nodes[1].kill9();
    let report = until_health(fleet, 200, "degraded").await;
    let node = &report["nodes"][1];
    assert_eq!((&node["name"], &node["ready"]), (&json!("node-2"), &json!(false)));
    assert_eq!(node["reason"], "ConnectionRefused");
    assert!(node["message"].as_str().expect("a message").contains("ollama serve"), "says what to do: {node}");
    assert_eq!(report["missing"], json!([]), "the other node has it");
    fleet.nodes[1].restart().await;
    until_health(fleet, 200, "healthy").await;
}

async fn absent_is_late(fleet: &Fleet) {
    let absent = fleet.model("drover/absent:1");
    fleet.apply(&required_manifest("absent", &absent)).await;
    let reason = |report: &Value| report["missing"][0]["message"].as_str().unwrap_or_default().to_owned();
    let report = until_health(fleet, 503, "unhealthy").await;
    assert!(reason(&report).contains(&format!("no ready node has {absent}")), "{report}");

    let late = wait(fleet, &["--timeout", "2s"]).await;
    assert_eq!(late.status.code(), Some(2), "{}", late.stderr);
    assert!(late.stderr.contains(&format!("warning: not there after 2s: absent ({absent})")), "{}", late.stderr);
    let outcome = late.json.expect("JSON");
    assert_eq!(outcome["status"], "timeout");
    let ready: Vec<bool> = outcome["models"].as_array().expect("models").iter().map(|m| m["ready"] == true).collect();
    assert_eq!(ready, [false, true], "absent, small");
    assert!(outcome["seconds"].as_f64().expect("seconds") >= 2.0);

    let warned = wait(fleet, &["--timeout", "1s", "--warn-only", "absent"]).await;
    assert_eq!(warned.status.code(), Some(0));
    assert!(warned.stderr.contains("warning: not there after 1s: absent"), "{}", warned.stderr);
    assert_eq!(warned.json.expect("JSON")["status"], "timeout");

    // Nobody requires it any more: the wait is over.
    let (waited, ()) = tokio::join!(wait(fleet, &["--timeout", "60s"]), async {
        fleet.until("mpull", "absent", "has failed", |status| status["phase"] == "Failed").await;
        fleet.patch("mpull", "absent", r#"{"spec": {"required": false}}"#).await;
    });
    assert_eq!(waited.status.code(), Some(0), "{}", waited.stderr);
    assert_eq!(waited.json.expect("JSON")["models"].as_array().map(Vec::len), Some(1));

    interrupted(fleet).await;
    let nowhere = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{{name: x, context: {{cluster: x, user: x}}}}]\n\
         users: [{{name: x, user: {{}}}}]\nclusters: [{{name: x, cluster: {{server: 'http://127.0.0.1:{}'}}}}]\n",
        free_port()
    );
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), nowhere).expect("a kubeconfig");
    let mut command = tokio::process::Command::new(program());
    let failed = command.args(["wait", "models"]).env("KUBECONFIG", file.path()).output().await.expect("drover starts");
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("reading ModelPull objects"), "{failed:?}");
}

async fn interrupted(fleet: &Fleet) {
    let mut command = tokio::process::Command::new(program());
    command.args(["wait", "models", "absent", "-n", &fleet.name]).env("KUBECONFIG", fleet.api.kubeconfig());
    let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("drover starts");
    let mut lines = tokio::io::BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line).await.expect("a first line");
    assert!(line.starts_with("absent ("), "{line}");
    let pid = Pid::from_raw(child.id().expect("it runs") as i32).expect("a process");
    kill_process(pid, Signal::INT).expect("it can be interrupted");
    assert_eq!(child.wait().await.expect("it ends").code(), Some(130));
}

async fn the_start_warns(fleet: &mut Fleet, model: &str) {
    fleet.nodes[1].kill9();
    until_health(fleet, 200, "degraded").await;
    fleet.patch("mpull", "absent", r#"{"spec": {"required": true}}"#).await;
    until_health(fleet, 503, "unhealthy").await;
    let before = fleet.controller.process().log().len();
    fleet.controller.restart().await;
    let log = eventually("the controller has said how the fleet is", SOON, async || {
        let log = fleet.controller.process().log()[before..].to_owned();
        if log.contains("the fleet at start-up") { Ok(log) } else { Err(log) }
    })
    .await;
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
    let count = |text: &str| warnings.iter().filter(|line| line.contains(text)).count();
    let absent = fleet.model("drover/absent:1");
    assert_eq!(
        count(&format!("required model {absent} is missing (ModelPull {}/absent)", fleet.name)),
        1,
        "{warnings:#?}"
    );
    assert_eq!(count(&format!("node {}/node-2 is not ready", fleet.name)), 1, "{warnings:#?}");
    assert_eq!(count(&format!("model {model} is missing")), 0, "{warnings:#?}");
    assert!(fleet.controller.process().is_alive(), "nothing stops the start");
}

/// The answers are prepared, so that their number costs next to nothing and their size only its bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_nodes_with_fifty_models_are_answered_for_from_memory() {
    let models: Vec<Value> = (0..50)
        .map(|model| json!({"name": format!("model-{model}:1"), "digest": format!("sha256:{model:064x}"), "sizeBytes": 5}))
        .collect();
    let ready = json!([{
        "type": "Ready", "status": "True", "reason": "Answering", "message": "Ollama 0.17.4 answers at http://10.0.0.1:11434",
        "lastTransitionTime": "2026-01-01T00:00:00Z"
    }]);
    let object = |kind: &str, name: String, spec: Value, status: Value| {
        json!({
            "apiVersion": "drover.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "ml"},
            "spec": spec, "status": status
        })
    };
    let nodes = (0..1000).map(|node| {
        let status = json!({"conditions": ready, "models": models});
        let object = object("OllamaNode", format!("node-{node}"), json!({"url": "http://10.0.0.1:11434"}), status);
        Arc::new(serde_json::from_value::<OllamaNode>(object).expect("a node"))
    });
    let pulls = (0..50).map(|pull| {
        let spec = json!({"model": format!("model-{pull}:1"), "required": true});
        let object = object("ModelPull", format!("pull-{pull}"), spec, json!({}));
        Arc::new(serde_json::from_value::<ModelPull>(object).expect("a pull"))
    });
    let (nodes, pulls): (Vec<_>, Vec<_>) = (nodes.collect(), pulls.collect());
    let began = Instant::now();
    let fleet = Objects { nodes, pulls, ..Objects::default() };
    let snapshot = Snapshot::of(&fleet).expect("a snapshot");
    let prepared = began.elapsed();
    let health = FleetHealth::default();
    health.publish(snapshot);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/health/models", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, health.router()).await });
    let http = crate::support::http_client();
    for query in ["", "?summary"] {
        let (mut times, mut bytes) = (Vec::new(), 0);
        for _ in 0..300 {
            let began = Instant::now();
            let answer = http.get(format!("{url}{query}")).send().await.expect("an answer");
            assert_eq!(answer.status(), 200);
            bytes = answer.bytes().await.expect("all of it").len();
            times.push(began.elapsed());
        }
        times.sort_unstable();
        let (median, p99, worst) = (times[150], times[297], times[299]);
        println!("prepared in {prepared:?}; {query:?}: {bytes} bytes, median {median:?}, p99 {p99:?}, worst {worst:?}");
        assert!(worst < Duration::from_secs(2), "{query:?}: {worst:?}");
    }
}

async fn metrics_can_be_read_by_prometheus_and_move(server: Server) {
    let fleet = Fleet::start(server, &[("drover/small", "1", TinyLlama::new(42))]).await;
    let model = fleet.model("drover/small:1");
    fleet.apply(&pull_manifest("small", &model)).await;
    fleet.wait_ready("mpull", "small").await;
    fleet.until_served(&model).await;
    let controller = metrics(&fleet, &fleet.controller.health_url()).await;
    assert_eq!(controller["drover_objects{kind=\"OllamaNode\",ready=\"True\"}"], 2.0);
    assert_eq!(controller["drover_objects{kind=\"ModelPull\",ready=\"True\"}"], 1.0);
    assert_eq!(controller["drover_missing_models{required=\"true\"}"], 0.0);
    assert!(controller["drover_reconciles_total{kind=\"OllamaNode\",outcome=\"Done\"}"] >= 2.0);
    assert!(controller["drover_reconcile_duration_seconds_count{kind=\"ModelPull\"}"] >= 1.0);

    let gateway = fleet.gateways[0].health_url();
    let (path, before) = ("{path=\"/api/chat\",code=\"2xx\"}", metrics(&fleet, &gateway).await);
    assert_eq!(before["drover_gateway_in_flight_requests"], 0.0);
    assert_eq!(fleet.chat(0, &model).await.status(), 200);
    assert_eq!(fleet.chat(0, "nobody:1").await.status(), 404);
    let body = json!({"model": model, "messages": [{"role": "user", "content": "Hi"}], "options": {"num_predict": 4}});
    let stream = fleet.http.post(format!("{}/api/chat", fleet.gateway_urls[0])).json(&body).send().await;
    stream.expect("an answer").bytes().await.expect("to its end");
    let after = eventually("both answers are counted", SOON, async || {
        let after = metrics(&fleet, &gateway).await;
        let whole = "drover_gateway_request_duration_seconds_count{path=\"/api/chat\"}";
        if after[whole] - before[whole] == 3.0 { Ok(after) } else { Err(after[whole]) }
    })
    .await;
    let moved = |name: &str| after[name] - before[name];
    assert_eq!(moved(&format!("drover_gateway_requests_total{path}")), 2.0);
    assert_eq!(moved("drover_gateway_requests_total{path=\"/api/chat\",code=\"4xx\"}"), 1.0);
    assert_eq!(moved("drover_gateway_attempts_total{outcome=\"Answered\"}"), 2.0);
    assert_eq!(moved("drover_gateway_first_byte_seconds_count{path=\"/api/chat\"}"), 3.0);
    assert_eq!(after["drover_gateway_in_flight_requests"], 0.0);
    assert!(!after.keys().any(|name| name.contains("nobody")), "no caller's words in labels");
    for of in [&controller, &after] {
        assert_eq!(of[&format!("drover_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))], 1.0);
        assert!(of["drover_process_resident_memory_bytes"] > 1e6 && of["drover_process_open_fds"] > 3.0);
        assert!(of["drover_process_cpu_seconds_total"] > 0.0);
    }
}

/// Reads `/metrics` as strictly as OpenMetrics has it: every sample belongs to the family announced before it, counters
/// end in `_total`, no sample comes twice, and the last line is `# EOF`.
async fn metrics(fleet: &Fleet, health_url: &str) -> BTreeMap<String, f64> {
    let answer = fleet.http.get(format!("{health_url}/metrics")).send().await.expect("an answer");
    assert!(answer.headers()["content-type"].to_str().expect("text").starts_with("application/openmetrics-text"));
    let text = answer.text().await.expect("text");
    let sample = Regex::new(r#"^([a-z_]+)(\{([a-z_]+="[^"\\\n]*",?)+\})? (-?[0-9.e+-]+|\+Inf)$"#).expect("a pattern");
    let (mut samples, mut family, mut kind) = (BTreeMap::new(), String::new(), String::new());
    let body = text.strip_suffix("# EOF\n").unwrap_or_else(|| panic!("no # EOF at the end of {text}"));
    for line in body.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["#", "HELP", name, ..] => family = name.to_owned(),
            ["#", "TYPE", name, type_] => {
                assert_eq!(name, family);
                kind = type_.to_owned();
            }
            ["#", "UNIT", name, unit] => assert!(name == family && name.ends_with(unit), "{line}"),
            _ => {
                let parts = sample.captures(line).unwrap_or_else(|| panic!("not a sample: {line}"));
                let suffix = parts[1].strip_prefix(&family).unwrap_or_else(|| panic!("{line} is not of {family}"));
                let suffixes: &[&str] = match kind.as_str() {
                    "counter" => &["_total"],
                    "gauge" => &[""],
                    "info" => &["_info"],
                    "histogram" => &["_sum", "_count", "_bucket"],
                    other => panic!("{family} is a {other}"),
                };
                let is_named = ["drover_", "gen_ai_"].iter().any(|ours| family.starts_with(ours));
                assert!(suffixes.contains(&suffix) && is_named, "{line}");
                let (name, value) = line.rsplit_once(' ').expect("a value");
                let value = value.parse().expect("a number");
                assert!(samples.insert(name.to_owned(), value).is_none(), "twice: {name}");
            }
        }
    }
    samples
}

fn required_manifest(name: &str, model: &str) -> String {
    pull_manifest(name, model).replace("insecure: true", "insecure: true, required: true")
}

/// `drover wait models` in the fleet's namespace.
async fn wait(fleet: &Fleet, arguments: &[&str]) -> Ended {
    drover(fleet, &[&["wait", "models", "-n", &fleet.name], arguments].concat()).await
}

async fn drover(fleet: &Fleet, arguments: &[&str]) -> Ended {
    let began = Instant::now();
    let mut command = tokio::process::Command::new(program());
    command.args(arguments).env("KUBECONFIG", fleet.api.kubeconfig()).kill_on_drop(true);
    let output = command.output().await.expect("drover starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let stdout = text(output.stdout);
    assert!(stdout.lines().count() <= 1, "one line at most: {stdout}");
    let json = (!stdout.is_empty()).then(|| serde_json::from_str(&stdout).expect("JSON"));
    Ended { status: output.status, stderr: text(output.stderr), json, took: began.elapsed() }
}

/// Waits until controller and gateways all say the same, and this.
async fn until_health(fleet: &Fleet, code: u16, status: &str) -> Value {
    let processes = || fleet.gateways.iter().chain([&fleet.controller]);
    eventually(&format!("everybody says {code} {status}"), SOON, async || {
        let mut reports = Vec::new();
        for process in processes() {
            let answer = fleet.http.get(format!("{}/health/models", process.health_url())).send().await;
            let answer = answer.map_err(|error| error.to_string())?;
            let found = answer.status().as_u16();
            let report: Value = answer.json().await.map_err(|error| error.to_string())?;
            if found != code || report["status"] != status {
                return Err(format!("{found} {report}"));
            }
            reports.push(report);
        }
        let differs = reports.iter().find(|report| **report != reports[0]);
        match differs {
            Some(other) => Err(format!("{} and {other}", reports[0])),
            None => Ok(reports.swap_remove(0)),
        }
    })
    .await
}
