//! A thousand Ollama servers in one process: each has a port of its own and keeps what was pulled onto it. They speak
//! the part of Ollama's API that the controller uses, in Ollama's words.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, task::JoinSet};

/// How long a pull takes, and how many lines of progress it has after the first.
const PULL: Duration = Duration::from_millis(100);
const STEPS: i64 = 4;
const MODEL_BYTES: i64 = 2_019_393_189;

/// The servers; they end with the value.
pub struct Fleet {
    urls: Vec<String>,
    _servers: JoinSet<()>,
}

impl Fleet {
    /// Starts `count` servers, each with so many models.
    pub async fn start(count: usize, models: usize) -> Self {
        let mut servers = JoinSet::new();
        let mut urls = Vec::new();
        for _ in 0..count {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            urls.push(format!("http://{}", listener.local_addr().expect("its address")));
            let app = router(Node::with(models));
            servers.spawn(async move { axum::serve(listener, app).await.expect("the node serves") });
        }
        Self { urls, _servers: servers }
    }

    /// Where each one is.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }
}

/// The digest of each model by name.
#[derive(Clone)]
struct Node(Arc<Mutex<BTreeMap<String, String>>>);

impl Node {
    fn with(models: usize) -> Self {
        let names = (0..models).map(|at| format!("team/resident-{at}:3b"));
        Self(Arc::new(Mutex::new(names.map(|name| (name.clone(), digest_of(&name))).collect())))
    }

    fn models(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().expect("no panic while it is held")
    }
}

#[derive(Deserialize)]
struct Named {
    model: String,
}

#[derive(Deserialize)]
struct Copy {
    source: String,
    destination: String,
}

fn router(node: Node) -> Router {
    Router::new()
        .route("/api/version", get(async || Json(json!({"version": "0.17.4"}))))
        .route("/api/ps", get(async || Json(json!({"models": []}))))
        .route("/api/tags", get(tags))
        .route("/api/show", post(show))
        .route("/api/chat", post(chat))
        .route("/api/pull", post(pull))
        .route("/api/copy", post(copy))
        .route("/api/delete", delete(remove))
        .with_state(node)
}

async fn tags(State(node): State<Node>) -> Json<Value> {
    let entry = |(name, digest): (&String, &String)| {
        json!({
            "name": name, "model": name, "modified_at": "2026-01-01T00:00:00Z", "size": MODEL_BYTES, "digest": digest,
            "details": {"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
                "parameter_size": "3.2B", "quantization_level": "Q4_K_M"},
        })
    };
    Json(json!({"models": node.models().iter().map(entry).collect::<Vec<_>>()}))
}

async fn show(State(node): State<Node>, Json(asked): Json<Named>) -> Response {
    if !node.models().contains_key(&asked.model) {
        return absent(&asked.model);
    }
    let info = json!({"general.architecture": "llama", "llama.context_length": 131_072});
    Json(json!({"capabilities": ["completion", "tools"], "model_info": info})).into_response()
}

async fn chat(State(node): State<Node>, Json(asked): Json<Named>) -> Response {
    if !node.models().contains_key(&asked.model) {
        return absent(&asked.model);
    }
    let message = json!({"role": "assistant", "content": "Hello."});
    let counts = json!({"prompt_eval_count": 1, "eval_count": 1, "total_duration": 1_000_000});
    let mut answer = json!({
        "model": asked.model, "created_at": "2026-01-01T00:00:00Z", "message": message, "done": true, "done_reason": "stop",
    });
    answer.as_object_mut().into_iter().for_each(|all| all.extend(counts.as_object().cloned().unwrap_or_default()));
    Json(answer).into_response()
}

async fn pull(State(node): State<Node>, Json(asked): Json<Named>) -> Response {
    let digest = digest_of(&asked.model);
    let layer = format!("sha256:{digest}");
    let step = move |step: i64| {
        let status = format!("pulling {}", &layer[7..19]);
        json!({"status": status, "digest": layer, "total": MODEL_BYTES, "completed": MODEL_BYTES / STEPS * step})
    };
    let first = stream::once(async { json!({"status": "pulling manifest"}) });
    let bytes = stream::iter(1..=STEPS).then(move |at| {
        let line = step(at);
        async move {
            tokio::time::sleep(PULL / STEPS as u32).await;
            line
        }
    });
    let last = stream::once(async move {
        node.models().insert(asked.model, digest);
        json!({"status": "success"})
    });
    let words = ["verifying sha256 digest", "writing manifest"].map(|status| json!({"status": status}));
    let lines = first.chain(bytes).chain(stream::iter(words)).chain(last);
    Body::from_stream(lines.map(|line| Ok::<_, std::convert::Infallible>(format!("{line}\n")))).into_response()
}

fn digest_of(model: &str) -> String {
    Sha256::digest(model).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn copy(State(node): State<Node>, Json(asked): Json<Copy>) -> Response {
    let mut models = node.models();
    let Some(digest) = models.get(&asked.source).cloned() else { return absent(&asked.source) };
    models.insert(asked.destination, digest);
    StatusCode::OK.into_response()
}

async fn remove(State(node): State<Node>, Json(asked): Json<Named>) -> Response {
    match node.models().remove(&asked.model) {
        Some(_) => StatusCode::OK.into_response(),
        None => absent(&asked.model),
    }
}

fn absent(model: &str) -> Response {
    (StatusCode::NOT_FOUND, Json(json!({"error": format!("model '{model}' not found")}))).into_response()
}
