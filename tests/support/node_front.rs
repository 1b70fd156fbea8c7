//! A proxy in front of an Ollama node that breaks the answers of some models.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::{StatusCode, header};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::ollama::Ollama;
use super::{end_to_end, free_port, http_client};

/// The proxy; it ends with the value.
pub struct NodeFront {
    port: u16,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    upstream: String,
    http: reqwest::Client,
    /// Chats by model.
    chats: Mutex<BTreeMap<String, u64>>,
    /// The part of a model's name that fails.
    broken: Mutex<Option<String>>,
}

impl NodeFront {
    pub async fn start(node: &Ollama) -> Self {
        let port = free_port();
        let (http, chats, broken) = (http_client(), Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { upstream: node.url(), http, chats, broken });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
        let app = Router::new().fallback(proxy).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("the front serves") });
        Self { port, shared, server }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Models whose name contains this neither chat nor load from now on; `None`: all do.
    pub fn break_chats_of(&self, part_of_name: Option<&str>) {
        *self.shared.broken.lock().expect("no panic while it is held") = part_of_name.map(str::to_owned);
    }

    /// How many chats there were so far with models whose name contains this.
    pub fn chats_of(&self, part_of_name: &str) -> u64 {
        let chats = self.shared.chats();
        chats.iter().filter(|(model, _)| model.contains(part_of_name)).map(|(_, count)| count).sum()
    }
}

impl Drop for NodeFront {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn chats(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.chats.lock().expect("no panic while it is held")
    }

    /// Counts a chat; whether this is to fail.
    fn fails(&self, model: &str, is_chat: bool) -> bool {
        if is_chat {
            *self.chats().entry(model.to_owned()).or_default() += 1;
        }
        let broken = self.broken.lock().expect("no panic while it is held");
        broken.as_ref().is_some_and(|part| model.contains(part))
    }
}

async fn proxy(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("requests of tests are whole");
    let is_chat = parts.uri.path() == "/api/chat";
    if is_chat || ["/api/generate", "/api/embed"].contains(&parts.uri.path()) {
        let asked: Value = serde_json::from_slice(&body).expect("JSON");
        if shared.fails(asked["model"].as_str().unwrap_or_default(), is_chat) {
            let body = Body::from(r#"{"error":"llama runner process has terminated"}"#);
            let broken = Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR);
            return broken.header(header::CONTENT_TYPE, "application/json").body(body).expect("a response");
        }
    }
    parts.headers.remove(header::HOST);
    let url = format!("{}{}", shared.upstream, parts.uri);
    let sent = shared.http.request(parts.method, url).headers(end_to_end(parts.headers)).body(body).send().await;
    match sent {
        Ok(answer) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = answer.status();
            *response.headers_mut() = end_to_end(answer.headers().clone());
            *response.body_mut() = Body::from_stream(answer.bytes_stream());
            response
        }
        Err(error) => {
            let refused = Response::builder().status(StatusCode::BAD_GATEWAY);
            refused.body(Body::from(error.to_string())).expect("a response")
        }
    }
}
