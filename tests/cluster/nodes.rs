//! What is said of nodes that can't be used, and how little is asked of those that can.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, http::StatusCode, routing::any};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    namespace::{Namespace, condition},
    support::{drover::Drover, eventually, free_port, kube_api::Server},
    world::{SCRATCH, api, on_both_apis},
};

on_both_apis! {
    a_node_that_can_not_be_used_says_why,
    a_node_is_asked_for_details_once_and_written_on_change_only,
}

async fn a_node_that_can_not_be_used_says_why(server: Server) {
    let namespace = Namespace::new(api(server).await, "nodes").await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let closed = serve(Router::new().fallback(any(|| async { StatusCode::UNAUTHORIZED }))).await;
    let other = serve(Router::new().fallback(any(|| async { "hello" }))).await;
    let cases = [
        ("refused", format!("http://127.0.0.1:{}", free_port()), "ConnectionRefused"),
        ("silent", format!("http://{}", silent.local_addr().expect("an address")), "TimedOut"),
        ("closed", closed, "Unauthorized"),
        ("other", other, "NotOllama"),
        ("tls", namespace.api.url(), "TLSFailed"),
        ("unknown", "http://no-such-host.invalid:1".to_owned(), "Unreachable"),
    ];
    for (name, url, _) in &cases {
        apply(&namespace, name, url).await;
    }
    let _controller = Drover::controller(&namespace.api.kubeconfig(), &namespace.name, &[], SCRATCH.path()).await;
    for (name, url, reason) in &cases {
        let node = until(&namespace, name, reason).await;
        let ready = &node["status"]["conditions"][0];
        assert_eq!(ready["status"], "False");
        let message = ready["message"].as_str().expect("a message");
        assert!(message.starts_with(url.as_str()) && message.len() > url.len() + 20, "what to do: {message}");
    }
}

async fn a_node_is_asked_for_details_once_and_written_on_change_only(server: Server) {
    let namespace = Namespace::new(api(server).await, "details").await;
    let node = FakeNode::start().await;
    apply(&namespace, "node", &node.url).await;
    let _controller = Drover::controller(&namespace.api.kubeconfig(), &namespace.name, &[], SCRATCH.path()).await;
    let object = until(&namespace, "node", "Answering").await;
    assert_eq!(object["status"]["version"], "0.17.4");
    assert_eq!(object["status"]["models"][0]["capabilities"], json!(["completion", "tools"]));
    assert_eq!(object["status"]["models"][0]["contextLength"], 2048);
    assert_eq!(object["status"]["loaded"], json!(["b:1"]));
    assert_eq!(object["status"]["modelCount"], 2, "an alias of another installation is hidden");

    let (marker, probes) = (namespace.api.marker().await, node.probes());
    eventually("three more probes", Duration::from_secs(30), async || {
        let more = node.probes() - probes;
        if more >= 3 { Ok(()) } else { Err(more) }
    })
    .await;
    assert_eq!(node.shown.load(Ordering::SeqCst), 1, "both names have one digest");
    let writes = namespace.writes_since(marker).await;
    assert!(writes.is_empty(), "{writes:?}");

    // Drained: it stays Ready=False with that reason, though it answers.
    let drain = r#"{"spec": {"maintenance": true}}"#;
    namespace.patch("onode", "node", drain).await;
    until(&namespace, "node", "Maintenance").await;
}

/// A server that answers as Ollama does and counts what it is asked.
struct FakeNode {
    url: String,
    probed: Arc<AtomicU64>,
    shown: Arc<AtomicU64>,
}

impl FakeNode {
    async fn start() -> Self {
        let (probed, shown) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counted = |counter: &Arc<AtomicU64>, answer: serde_json::Value| {
            let counter = counter.clone();
            any(move || {
                counter.fetch_add(1, Ordering::SeqCst);
                let answer = answer.clone();
                async move { Json(answer) }
            })
        };
        let fixed = Arc::new(AtomicU64::new(0));
        let model =
            |name: &str| json!({"name": name, "digest": "a".repeat(64), "size": 5, "details": {"family": "llama"}});
        let models = [model("a:1"), model("b:1"), model("drover-01234567/x:v1.0.0")];
        let details = json!({
            "capabilities": ["tools", "completion"],
            "model_info": {"general.architecture": "llama", "llama.context_length": 2048},
        });
        let app = Router::new()
            .route("/api/version", counted(&probed, json!({"version": "0.17.4"})))
            .route("/api/tags", counted(&fixed, json!({"models": models})))
            .route("/api/ps", counted(&fixed, json!({"models": [{"name": "b:1"}]})))
            .route("/api/show", counted(&shown, details));
        Self { url: serve(app).await, probed, shown }
    }

    fn probes(&self) -> u64 {
        self.probed.load(Ordering::SeqCst)
    }
}

async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

async fn apply(namespace: &Namespace, name: &str, url: &str) {
    let kind = "apiVersion: drover.dev/v1alpha1\nkind: OllamaNode";
    namespace.apply(&format!("{kind}\nmetadata: {{name: {name}}}\nspec: {{url: '{url}'}}\n")).await;
}

async fn until(namespace: &Namespace, name: &str, reason: &str) -> serde_json::Value {
    let ready = if reason == "Answering" { "True" } else { "False" };
    let is_so =
        |status: &serde_json::Value| status["conditions"][0]["reason"] == reason && condition(status, "Ready", ready);
    namespace.until("onode", name, reason, is_so).await
}
