//! A server that speaks Ollama's protocol as 0.17.4 does, with knobs for what real nodes do on bad days.

use std::{
    collections::{BTreeSet, VecDeque},
    convert::Infallible,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::AbortHandle};

/// What a node does with one request.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Answers.
    Answer,
    /// Answers with these pieces instead of its usual ones.
    Say(Vec<Value>),
    /// Answers with an HTTP error.
    Fail(u16, String),
    /// Sends this many lines (without a stream: half of the answer) and cuts the connection.
    CutAfter(usize),
    /// Sends this many lines and ends the answer as if it were whole.
    StopAfter(usize),
    /// Sends this many lines and then an error line.
    ErrAfter(usize, String),
    /// Sends this many lines and goes on when it is let go.
    HoldAfter(usize),
    /// Sends the head of its answer, and so on, when it is let go.
    Hold,
    /// Cuts the connection when it is let go, without a head.
    HoldThenCut,
    /// Answers with this text.
    Raw(String),
}

#[derive(Default)]
struct Memory {
    models: BTreeSet<String>,
    acts: VecDeque<Act>,
    usual: Option<Act>,
    requests: Vec<(String, Value)>,
    headers: Vec<HeaderMap>,
    in_flight: usize,
    most_in_flight: usize,
    chunk: Option<usize>,
    pace: Duration,
    forgets: bool,
}

/// One fake node.
#[derive(Clone)]
pub struct FakeNode {
    pub name: String,
    pub url: String,
    memory: Arc<Mutex<Memory>>,
    open: watch::Sender<bool>,
    server: AbortHandle,
}

/// Counts a request as under way until its answer is sent or its caller is gone.
struct UnderWay(Arc<Mutex<Memory>>);

impl UnderWay {
    fn new(memory: &Arc<Mutex<Memory>>) -> Self {
        let mut inner = memory.lock().unwrap();
        inner.in_flight += 1;
        inner.most_in_flight = inner.most_in_flight.max(inner.in_flight);
        Self(memory.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.lock().unwrap().in_flight -= 1;
    }
}

impl FakeNode {
    /// A node that holds nothing yet.
    pub async fn start(name: &str) -> Self {
        Self::start_on(name, 0).await
    }

    /// The same on this port.
    pub async fn start_on(name: &str, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let memory = Arc::new(Mutex::new(Memory::default()));
        let open = watch::Sender::new(false);
        let router = Router::new().fallback(handle).with_state((name.to_owned(), memory.clone(), open.clone()));
        let listener = listener.tap_io(|connection| connection.set_nodelay(true).unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }).abort_handle();
        Self { name: name.into(), url, memory, open, server }
    }

    /// Several nodes, called `n1`, `n2`, ….
    pub async fn start_many(count: usize) -> Vec<Self> {
        let mut nodes = Vec::new();
        for index in 1..=count {
            nodes.push(Self::start(&format!("n{index}")).await);
        }
        nodes
    }

    /// A node at whose address nothing listens.
    pub async fn away(name: &str) -> Self {
        let node = Self::start(name).await;
        node.server.abort();
        let address = node.url.trim_start_matches("http://").to_owned();
        while tokio::net::TcpStream::connect(&address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        node
    }

    pub fn hold_model(&self, name: &str) {
        self.memory.lock().unwrap().models.insert(name.into());
    }

    pub fn forget_model(&self, name: &str) {
        self.memory.lock().unwrap().models.remove(name);
    }

    /// What to do with the next request that has no act yet.
    pub fn next(&self, act: Act) {
        self.memory.lock().unwrap().acts.push_back(act);
    }

    /// What to do with every request that has no act of its own.
    pub fn always(&self, act: Act) {
        self.memory.lock().unwrap().usual = Some(act);
    }

    /// Cuts everything it sends into chunks of this many bytes.
    pub fn chunk(&self, bytes: usize) {
        self.memory.lock().unwrap().chunk = Some(bytes);
    }

    /// Takes so long over every answer, and remembers no request: for long runs.
    pub fn work(&self, pace: Duration) {
        let mut memory = self.memory.lock().unwrap();
        (memory.pace, memory.forgets) = (pace, true);
    }

    /// Lets everything go on that holds, now and later.
    pub fn let_go(&self) {
        self.open.send_replace(true);
    }

    /// Path and body of each request so far.
    pub fn requests(&self) -> Vec<(String, Value)> {
        self.memory.lock().unwrap().requests.clone()
    }

    /// The values of a header in the requests so far; nothing where a request had none.
    pub fn headers(&self, name: &str) -> Vec<String> {
        let value = |headers: &HeaderMap| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        self.memory.lock().unwrap().headers.iter().map(value).collect()
    }

    /// The body of the only request so far.
    #[track_caller]
    pub fn only_body(&self) -> Value {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0].1.clone()
    }

    pub fn count(&self) -> usize {
        self.memory.lock().unwrap().requests.len()
    }

    pub fn in_flight(&self) -> usize {
        self.memory.lock().unwrap().in_flight
    }

    pub fn most_in_flight(&self) -> usize {
        self.memory.lock().unwrap().most_in_flight
    }
}

type Shared = (String, Arc<Mutex<Memory>>, watch::Sender<bool>);

async fn handle(State((name, memory, open)): State<Shared>, uri: Uri, request: Request) -> Response {
    let headers = request.headers().clone();
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let under_way = UnderWay::new(&memory);
    let (act, chunk, holds, pace) = {
        let mut memory = memory.lock().unwrap();
        if !memory.forgets {
            memory.requests.push((uri.path().into(), body.clone()));
            memory.headers.push(headers);
        }
        let act = memory.acts.pop_front().or_else(|| memory.usual.clone()).unwrap_or(Act::Answer);
        (act, memory.chunk, memory.models.contains(body["model"].as_str().unwrap_or_default()), memory.pace)
    };
    tokio::time::sleep(pace).await;
    if let Act::Fail(status, message) = act {
        return (StatusCode::from_u16(status).unwrap(), axum::Json(json!({ "error": message }))).into_response();
    }
    if !holds {
        let message = format!("model '{}' not found", body["model"].as_str().unwrap_or_default());
        return (StatusCode::NOT_FOUND, axum::Json(json!({ "error": message }))).into_response();
    }
    if matches!(act, Act::Hold | Act::HoldThenCut) {
        open.subscribe().wait_for(|open| *open).await.unwrap();
    }
    let streams = body["stream"].as_bool().unwrap_or(true);
    let lines = match &act {
        Act::Say(pieces) => lines(&body, pieces),
        _ => lines(&body, &usual(uri.path(), &name)),
    };
    let parts = if streams { lines } else { vec![whole(uri.path(), &lines)] };
    let response = Response::builder().header("content-type", "application/x-ndjson");
    response.body(Body::from_stream(perform(act, parts, chunk, open, under_way))).unwrap()
}

/// The answer as a stream of chunks; `None` in the list cuts the connection.
fn perform(
    act: Act,
    parts: Vec<String>,
    chunk: Option<usize>,
    open: watch::Sender<bool>,
    under_way: UnderWay,
) -> impl futures::Stream<Item = Result<Bytes, io::Error>> + Send {
    let half = |parts: &[String], count: usize| match parts {
        [only] => vec![only[..only.len() / 2].to_owned()],
        _ => parts[..count.min(parts.len())].to_vec(),
    };
    let (mut parts, mut cut, mut hold_at) = (parts, false, usize::MAX);
    match act {
        Act::CutAfter(count) => {
            parts = half(&parts, count);
            cut = true;
        }
        Act::HoldThenCut => {
            parts.clear();
            cut = true;
        }
        Act::StopAfter(count) => parts = half(&parts, count),
        Act::ErrAfter(count, message) => {
            parts.truncate(count);
            parts.push(format!("{}\n", json!({ "error": message })));
        }
        Act::HoldAfter(count) => hold_at = count,
        Act::Raw(text) => parts = vec![text],
        _ => {}
    }
    let pieces = parts.into_iter().enumerate().flat_map(move |(index, part)| {
        let size = chunk.unwrap_or(usize::MAX).min(part.len().max(1));
        let pieces: Vec<_> =
            part.into_bytes().chunks(size).map(|piece| (index, Bytes::copy_from_slice(piece))).collect();
        pieces
    });
    let pieces = stream::iter(pieces.collect::<Vec<_>>()).then(move |(index, piece)| {
        let mut open = open.subscribe();
        async move {
            if index >= hold_at {
                open.wait_for(|open| *open).await.unwrap();
            }
            // A body that is not ready makes the server send what it has.
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(piece)
        }
    });
    let end = stream::iter(cut.then_some(())).then(|()| async {
        tokio::task::yield_now().await;
        Err(io::Error::other("cut"))
    });
    pieces.map(|piece| Ok(piece.unwrap())).chain(end).map(move |piece| {
        let _until_dropped = &under_way;
        piece
    })
}

fn usual(path: &str, name: &str) -> Vec<Value> {
    let piece = |text: String| match path {
        "/api/generate" => json!({ "response": text }),
        _ => json!({ "message": { "role": "assistant", "content": text } }),
    };
    let mut pieces: Vec<_> = ["Hello", " from ", name].iter().map(|text| piece((*text).into())).collect();
    pieces.push(piece(String::new()));
    pieces
}

/// Ollama's lines: `model` first, metrics in the last one.
fn lines(request: &Value, pieces: &[Value]) -> Vec<String> {
    let count = pieces.len();
    let line = |(index, piece): (usize, &Value)| {
        let mut line = json!({ "model": request["model"], "created_at": "2026-11-20T20:00:00.000000001Z" });
        let fields = line.as_object_mut().unwrap();
        fields.extend(piece.as_object().unwrap().clone());
        fields.insert("done".into(), (index + 1 == count).into());
        if index + 1 == count {
            fields.entry("done_reason").or_insert("stop".into());
            fields.entry("prompt_eval_count").or_insert(11.into());
            fields.entry("eval_count").or_insert(7.into());
        }
        format!("{line}\n")
    };
    pieces.iter().enumerate().map(line).collect()
}

/// The lines as the one object that a request without a stream gets.
fn whole(path: &str, lines: &[String]) -> String {
    let parsed: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut whole = parsed.last().unwrap().clone();
    let join = |at: &str| -> String { parsed.iter().filter_map(|line| line.pointer(at)?.as_str()).collect() };
    if path == "/api/generate" {
        whole["response"] = join("/response").into();
    } else {
        whole["message"]["content"] = join("/message/content").into();
        let thinking = join("/message/thinking");
        if !thinking.is_empty() {
            whole["message"]["thinking"] = thinking.into();
        }
        let calls = parsed.iter().filter_map(|line| line["message"]["tool_calls"].as_array()).flatten();
        let calls: Vec<_> = calls.cloned().collect();
        if !calls.is_empty() {
            whole["message"]["tool_calls"] = calls.into();
        }
    }
    whole.to_string()
}
