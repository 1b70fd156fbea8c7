//! Callers who ask again and again in every format, and note what became of each request.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use drover::domain::run_id::RunId;
use futures::StreamExt;
use serde_json::{Value, json};

use super::nodes::MODEL;

/// What became of all requests.
#[derive(Default)]
pub struct Outcomes {
    inner: Mutex<Inner>,
    over: AtomicBool,
}

#[derive(Default)]
struct Inner {
    whole: BTreeSet<RunId>,
    broken: usize,
    wrong: Vec<String>,
}

impl Outcomes {
    /// Answers that came whole, by their runs.
    pub fn whole(&self) -> BTreeSet<RunId> {
        self.with(|inner| inner.whole.clone())
    }

    /// Streams that broke off after their first byte, with an error in the caller's format.
    pub fn broken(&self) -> usize {
        self.with(|inner| inner.broken)
    }

    /// What must not happen.
    pub fn wrong(&self) -> Vec<String> {
        self.with(|inner| inner.wrong.clone())
    }

    /// Has every caller end after the request under way.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    fn with<T>(&self, look: impl FnOnce(&mut Inner) -> T) -> T {
        look(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A way to ask, and by what an answer is known to be whole.
struct Way {
    path: &'static str,
    body: Value,
    end: &'static str,
}

fn ways() -> Vec<Way> {
    let asked = json!([{ "role": "user", "content": "Who are you?" }]);
    let way = |path, end, more: Value| {
        let mut body = json!({ "model": MODEL });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        Way { path, body, end }
    };
    vec![
        way("/api/chat", "\"done\":true", json!({ "messages": asked })),
        way("/api/generate", "\"done\":true", json!({ "prompt": "Who are you?", "stream": false })),
        way("/v1/chat/completions", "data: [DONE]", json!({ "messages": asked, "stream": true })),
        way("/v1/chat/completions", "\"finish_reason\":\"stop\"", json!({ "messages": asked })),
        way("/v1/messages", "message_stop", json!({ "messages": asked, "max_tokens": 50, "stream": true })),
    ]
}

/// Asks until it is over.
pub async fn call(url: &str, caller: usize, outcomes: &Outcomes) {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let ways = ways();
    for turn in caller.. {
        if outcomes.over.load(Ordering::Relaxed) {
            return;
        }
        ask(&http, url, &ways[turn % ways.len()], outcomes).await;
    }
}

async fn ask(http: &reqwest::Client, url: &str, way: &Way, outcomes: &Outcomes) {
    let wrong = |what: String| outcomes.with(|inner| inner.wrong.push(format!("{} {}: {what}", way.path, way.body)));
    let answer = match http.post(format!("{url}{}", way.path)).json(&way.body).send().await {
        Ok(answer) => answer,
        Err(error) => return wrong(format!("{error:?}")),
    };
    let (status, id) = (answer.status(), answer.headers().get("x-drover-run-id").cloned());
    let id: Option<RunId> = id.and_then(|id| id.to_str().ok()?.parse().ok());
    let (mut text, mut pieces) = (Vec::new(), answer.bytes_stream());
    while let Some(Ok(piece)) = pieces.next().await {
        text.extend_from_slice(&piece);
    }
    let text = String::from_utf8_lossy(&text);
    let streams = way.body["stream"].as_bool().unwrap_or(way.path == "/api/chat");
    match id {
        Some(id) if status == 200 && text.contains(way.end) => {
            outcomes.with(|inner| inner.whole.insert(id));
        }
        // It had begun.
        Some(_) if status == 200 && streams && text.contains("broke off") => outcomes.with(|inner| inner.broken += 1),
        _ => wrong(format!("{status} {text}")),
    }
}
