//! Drover's processes as an operator meets them: flags, exit codes, signals.

use std::{
    process::{Command, Output},
    time::Duration,
};

use drover::supervisor::Supervisor;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    fleet::node_manifest,
    namespace::{Namespace, SOON},
    support::{
        Scratch,
        drover::{Drover, program},
        eventually, free_port, http_client,
        kube_api::Server,
    },
    world::{SCRATCH, api, on_both_apis},
};

#[test]
fn all_faults_in_the_settings_are_named_at_once() {
    let answer =
        drover(&["gateway", "--drain-timeout", "soon", "--log-format", "xml"], &[("DROVER_HEALTH_LISTEN", "here")]);
    assert_eq!(answer.status.code(), Some(2));
    let said = text(&answer.stderr);
    for fault in
        ["drain-timeout = \"soon\" (flag)", "log-format = \"xml\" (flag)", "health-listen = \"here\" (environment)"]
    {
        assert!(said.contains(fault), "{fault} is not in {said}");
    }
    let answer = drover(&["gateway", "--config", "/nowhere.yaml", "--queue-timeout", "long"], &[]);
    assert_eq!(answer.status.code(), Some(2));
    let said = text(&answer.stderr);
    assert!(said.contains("/nowhere.yaml") && said.contains("queue-timeout = \"long\" (flag)"), "{said}");
    assert_eq!(drover(&["gateway", "--no-such-flag"], &[]).status.code(), Some(2));
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let answer = drover(&["gateway", "--gateway-listen", &address, "--health-listen", "127.0.0.1:0"], &[]);
    assert_eq!(answer.status.code(), Some(1));
    let said = text(&answer.stderr);
    assert!(
        said.contains("gateway-listen") && said.contains(&address) && said.contains("another program listens there"),
        "{said}"
    );
}

#[test]
fn logs_are_json_when_asked_for() {
    let listen = ["--health-listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0"];
    let answer = drover(&[&["gateway", "--log-format", "json"][..], &listen].concat(), &[]);
    assert_eq!(answer.status.code(), Some(1), "there is no cluster");
    let said = text(&answer.stderr);
    let (last, logs) =
        said.lines().collect::<Vec<_>>().split_last().map(|(l, r)| (l.to_string(), r.join("\n"))).expect("lines");
    assert!(last.contains("connecting to Kubernetes") && last.contains("KUBECONFIG"), "{last}");
    let lines: Vec<serde_json::Value> = logs.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lines.iter().any(|line| line["message"] == "the gateway starts" && line["level"] == "INFO"), "{logs}");
}

#[test]
fn the_small_commands_print_what_they_promise() {
    let version = drover(&["version"], &[]);
    assert_eq!(text(&version.stdout), format!("drover {}\n", env!("CARGO_PKG_VERSION")));
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&drover(&["completion", shell], &[]).stdout).contains("rollout"), "{shell}");
    }
    assert_eq!(text(&drover(&["crds"], &[]).stdout).matches("kind: CustomResourceDefinition").count(), 10);
    let scratch = Scratch::new();
    let dir = scratch.join("a/new/folder");
    let written = drover(&["crds", "--dir", dir.to_str().expect("a path")], &[]);
    assert!(written.status.success(), "{}", text(&written.stderr));
    assert_eq!(dir.read_dir().expect("the folder was made").count(), 10);
    let help = text(&drover(&["rollout", "undo", "--help"], &[]).stdout);
    assert!(help.contains("Example:"), "help teaches by example: {help}");
}

on_both_apis! {
    a_rollout_that_is_not_there_is_a_failure,
    sigterm_lets_requests_finish_and_exits_with_0,
}

async fn a_rollout_that_is_not_there_is_a_failure(server: Server) {
    let kubeconfig = api(server).await.kubeconfig().display().to_string();
    for command in ["status", "history", "undo", "promote", "pause", "resume", "abort", "retry"] {
        let answer = drover(&["rollout", command, "nobody"], &[("KUBECONFIG", &kubeconfig)]);
        assert_eq!(answer.status.code(), Some(1), "{command}");
        let said = text(&answer.stderr);
        assert!(said.contains("no ModelDeployment nobody in namespace default"), "{command}: {said}");
    }
}

async fn sigterm_lets_requests_finish_and_exits_with_0(server: Server) {
    let namespace = Namespace::new(api(server).await, "drain").await;
    let node = SlowNode::start().await;
    namespace.apply(&node_manifest("slow", &node.url)).await;
    let kubeconfig = namespace.api.kubeconfig();
    let mut controller = Drover::controller(&kubeconfig, &namespace.name, &[], SCRATCH.path()).await;
    let port = free_port();
    let mut gateway = Drover::gateway("drained", &kubeconfig, &namespace.name, port, SCRATCH.path()).await;
    let url = format!("http://127.0.0.1:{port}");
    let http = http_client();
    eventually("the gateway knows the node", SOON, async || {
        let tags = http.get(format!("{url}/api/tags")).send().await.map_err(|error| error.to_string())?;
        let tags = tags.text().await.map_err(|error| error.to_string())?;
        if tags.contains("slow:1") { Ok(()) } else { Err(tags) }
    })
    .await;
    let body = json!({"model": "slow:1", "stream": false, "messages": [{"role": "user", "content": "x"}]});
    let request = tokio::spawn(http.post(format!("{url}/api/chat")).json(&body).send());
    node.asked.notified().await;
    let ready = format!("{}/readyz", gateway.health_url());
    let exit = gateway.process().stop_gracefully(Duration::from_secs(20));
    let finish = async {
        eventually("the gateway takes no new connection", SOON, async || {
            match tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
                Err(_) => Ok(()),
                Ok(_) => Err("still accepts"),
            }
        })
        .await;
        let ready = http.get(&ready).send().await.expect("the health port answers to the end");
        assert_eq!(ready.status(), 503);
        assert_eq!(ready.text().await.expect("text"), "not ready: finishing what is under way\n");
        node.answer.notify_one();
    };
    let (exit, ()) = tokio::join!(exit, finish);
    let answer = request.await.expect("no panic").expect("the request was finished");
    assert_eq!(answer.status(), 200);
    assert_eq!(exit.code(), Some(0));
    let exit = controller.process().stop_gracefully(Duration::from_secs(20)).await;
    assert_eq!(exit.code(), Some(0));
}

#[tokio::test]
async fn a_service_or_job_that_dies_ends_the_process() {
    let ended = async |start: fn(&mut Supervisor)| {
        let mut supervisor = Supervisor::new(SOON);
        let stop = supervisor.stop_token();
        supervisor.service("healthy", async move {
            stop.cancelled().await;
            Ok::<(), String>(())
        });
        start(&mut supervisor);
        supervisor.run().await.expect_err("the process ends").to_string()
    };
    let returned = ended(|supervisor| supervisor.service("watch", async { Ok::<(), String>(()) })).await;
    assert_eq!(returned, "watch ended: it returned");
    let failed = ended(|supervisor| supervisor.service("watch", async { Err("no route") })).await;
    assert_eq!(failed, "watch ended: no route");
    let panicked = ended(|supervisor| {
        supervisor.service("watch", async { panic!("a bug") as Result<(), String> });
    })
    .await;
    assert!(panicked.starts_with("watch ended: ") && panicked.contains("a bug"), "{panicked}");
    let job = ended(|supervisor| supervisor.jobs().start(CancellationToken::new(), async { panic!("a bug") })).await;
    assert!(job.starts_with("a job ended: ") && job.contains("a bug"), "{job}");
}

#[tokio::test]
async fn who_does_not_finish_is_not_waited_for() {
    let mut supervisor = Supervisor::new(Duration::from_millis(10));
    supervisor.service("stubborn", std::future::pending::<Result<(), String>>());
    supervisor.service("short", async { Ok::<(), String>(()) });
    let stop = supervisor.stop_token();
    let ended = supervisor.run().await.expect_err("it was not asked to end").to_string();
    assert!(stop.is_cancelled(), "everything was asked to finish");
    assert_eq!(ended, "short ended: it returned", "the first cause is what is told");
}

/// A node that answers a chat only when it is told to.
struct SlowNode {
    url: String,
    asked: std::sync::Arc<tokio::sync::Notify>,
    answer: std::sync::Arc<tokio::sync::Notify>,
}

impl SlowNode {
    async fn start() -> Self {
        use axum::{Json, Router, routing::any};
        let (asked, answer) =
            (std::sync::Arc::<tokio::sync::Notify>::default(), std::sync::Arc::<tokio::sync::Notify>::default());
        let (told, waits) = (asked.clone(), answer.clone());
        let model = json!({"name": "slow:1", "digest": "b".repeat(64), "size": 5, "details": {}});
        let app = Router::new()
            .route("/api/version", any(async || Json(json!({"version": "0.17.4"}))))
            .route("/api/tags", any(async move || Json(json!({"models": [model]}))))
            .route("/api/ps", any(async || Json(json!({"models": []}))))
            .route("/api/show", any(async || Json(json!({"capabilities": ["completion"]}))))
            .route(
                "/api/chat",
                any(async move || {
                    told.notify_one();
                    waits.notified().await;
                    Json(json!({"model": "slow:1", "message": {"role": "assistant", "content": "late"}, "done": true}))
                }),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, asked, answer }
    }
}

/// Runs `drover` to its end, with nothing of this machine's settings.
fn drover(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).env_clear().env("PATH", "/nowhere").envs(variables.iter().copied());
    command.output().expect("drover starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
