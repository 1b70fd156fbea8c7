//! The two APIs, asked in the same way, and what of their answers counts.

use std::{
    future::ready,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

use drover::{
    api::crds,
    standalone::{self, Durability},
};
use futures::{Stream, StreamExt, stream};
use regex::Regex;
use serde_json::{Value, json};
use tokio::{process::Command, runtime::Runtime, sync::OnceCell, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::support::{Scratch, checkout, eventually, kube_api::KubeApi, stack::program};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
static SCRATCH: LazyLock<Scratch> = LazyLock::new(Scratch::new);
static REAL: OnceCell<(KubeApi, Side)> = OnceCell::const_new();
static EMBEDDED: OnceCell<(Embedded, Side)> = OnceCell::const_new();

/// Runs a scenario on the runtime that the shared servers live on.
pub fn scenario<F: Future<Output = ()>>(scenario: impl FnOnce() -> F) {
    RUNTIME.block_on(scenario());
}

/// The embedded API, running in this process with its state in a folder.
pub struct Embedded {
    pub api: standalone::Api,
    pub server: standalone::Server,
    /// Asks the server to finish.
    pub stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Embedded {
    pub async fn start(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).expect("a folder for the state");
        let (api, service) =
            standalone::Api::open(dir, &crds(), Durability::default()).await.expect("the state can be opened");
        let stop = CancellationToken::new();
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let (server, answers) =
            standalone::Server::bind(api.clone(), any, dir, stop.clone()).await.expect("it can listen");
        let tasks = vec![
            tokio::spawn(async move { service.await.expect("the API goes on") }),
            tokio::spawn(async move { answers.await.expect("the server goes on") }),
        ];
        Self { api, server, stop, tasks }
    }
}

impl Embedded {
    /// Asks the server to finish, and waits until it has.
    pub async fn finish(&mut self) {
        self.stop.cancel();
        let answers = self.tasks.pop().expect("the server's task");
        tokio::time::timeout(Duration::from_secs(10), answers).await.expect("it ends in time").expect("it ends well");
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Runs `drover`; whether it succeeded, what it printed, and what it said on stderr.
pub async fn drover(arguments: &[&str], kubeconfig: &Path) -> (bool, String, String) {
    let mut command = Command::new(crate::support::drover::program());
    command.args(arguments).env("KUBECONFIG", kubeconfig).env("HOME", SCRATCH.join("home")).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("drover {arguments:?} hangs")).expect("drover starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// One of the two APIs.
#[derive(Clone, Debug)]
pub struct Side {
    pub name: &'static str,
    pub kubeconfig: PathBuf,
    url: String,
    token: String,
    http: reqwest::Client,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub code: u16,
    pub body: Value,
    pub warnings: Vec<String>,
}

fn http_client() -> reqwest::ClientBuilder {
    let client = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true);
    client.user_agent("conformance/1")
}

impl Side {
    fn new(name: &'static str, kubeconfig: PathBuf) -> Self {
        let text = std::fs::read_to_string(&kubeconfig).expect("a kubeconfig");
        let config: Value = serde_yaml::from_str(&text).expect("a kubeconfig is YAML");
        let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).expect(pointer).to_owned();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = http_client().build().expect("an HTTP client");
        Self { name, url: text("/clusters/0/cluster/server"), token: text("/users/0/user/token"), http, kubeconfig }
    }

    /// The same, with a connection for each request that is under way.
    pub fn with_many_connections(mut self) -> Self {
        self.http = http_client().http1_only().build().expect("an HTTP client");
        self
    }

    pub async fn embedded(embedded: &Embedded) -> Self {
        Self::of(&embedded.server.kubeconfig)
    }

    /// The embedded API that a kubeconfig names.
    pub fn of(kubeconfig: &Path) -> Self {
        Self::new("embedded", kubeconfig.to_owned())
    }

    /// A request with the right to everything.
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        let request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        request.timeout(Duration::from_secs(30))
    }

    /// One request; the content type is that of the method unless the path begins with one, as `merge:/api…`.
    pub async fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.try_ask(method, path, body).await.expect("an answer")
    }

    /// The same, where there may be none.
    pub async fn try_ask(&self, method: &str, path: &str, body: &Value) -> Option<Answer> {
        let (kind, path) = form(path);
        let content_type = match kind {
            "merge" => "application/merge-patch+json",
            "json" => "application/json-patch+json",
            "strategic" => "application/strategic-merge-patch+json",
            "apply" => "application/apply-patch+yaml",
            _ => "application/json",
        };
        let mut request = self.request(method, path).header("accept", accepted(kind));
        request = match body {
            Value::Null => request,
            Value::String(text) => request.header("content-type", content_type).body(text.clone()),
            body => request.header("content-type", content_type).body(body.to_string()),
        };
        let response = request.send().await.ok()?;
        let code = response.status().as_u16();
        let warnings = response.headers().get_all("warning").iter();
        let warnings = warnings.map(|value| value.to_str().expect("text").to_owned()).collect();
        let text = response.text().await.expect("a whole answer");
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Some(Answer { code, body, warnings })
    }

    /// The events of a watch, as long as it goes on, if at all; what is cut off in the middle counts for nothing.
    pub async fn lines(&self, path: &str) -> impl Stream<Item = Value> + use<> {
        let (kind, path) = form(path);
        let request = self.request("GET", path).header("accept", accepted(kind)).timeout(Duration::from_secs(600));
        let chunks = stream::iter(request.send().await.ok()).flat_map(reqwest::Response::bytes_stream);
        let chunks = chunks.take_while(|chunk| ready(chunk.is_ok())).map(|chunk| chunk.expect("bytes"));
        let lines = chunks.scan(Vec::new(), |text, chunk| {
            text.extend_from_slice(&chunk);
            let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let whole: Vec<u8> = text.drain(..whole).collect();
            let lines = whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let events: Vec<Value> = lines.map(|line| serde_json::from_slice(line).expect("an event")).collect();
            ready(Some(stream::iter(events)))
        });
        lines.flatten()
    }

    /// The events of a watch until there are `count` of them, bookmarks left out.
    pub async fn watch(&self, path: &str, count: usize) -> Vec<Value> {
        self.lines(path).await.filter(|event| ready(event["type"] != "BOOKMARK")).take(count).collect().await
    }

    /// The events of a watch to its end, or to the first one that is the last.
    pub async fn events(&self, path: &str, mut is_last: impl FnMut(&Value) -> bool) -> Value {
        let (kind, path) = form(path);
        let request = self.request("GET", path).header("accept", accepted(kind));
        let response = request.send().await.expect("a watch");
        let (mut stream, mut text, mut events) = (response.bytes_stream(), Vec::new(), Vec::new());
        while let Some(chunk) = stream.next().await {
            text.extend_from_slice(&chunk.expect("a piece of the watch"));
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line).expect("an event is JSON");
                let last = is_last(&event);
                events.push(event);
                if last {
                    return Value::Array(events);
                }
            }
        }
        Value::Array(events)
    }

    /// Runs a program of the stack against this API; whether it succeeded, and what it printed, its errors last.
    pub async fn run(&self, name: &str, arguments: &[&str], stdin: &str, env: &[(&str, &str)]) -> (bool, String) {
        use tokio::io::AsyncWriteExt;
        let mut command = self.command(name, arguments);
        command.envs(env.iter().copied());
        let pipe = std::process::Stdio::piped;
        command.stdin(pipe()).stdout(pipe()).stderr(pipe());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut input = child.stdin.take().expect("its input is a pipe");
        // It may end before it has read its input.
        let _ = input.write_all(stdin.as_bytes()).await;
        drop(input);
        let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("{name} {arguments:?} hangs")).expect("it ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program(name));
        // A home of its own: no settings of the person, no cache of another API server.
        let home = SCRATCH.join(&format!("home-{}", self.name));
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig).env("HOME", home).kill_on_drop(true);
        command
    }
}

impl Side {
    /// The first lines that kubectl prints; `meanwhile` happens after the second one.
    pub async fn kubectl_lines(
        &self,
        version: &str,
        arguments: &[&str],
        count: usize,
        meanwhile: impl Future<Output = ()>,
    ) -> Vec<String> {
        use tokio::io::{AsyncBufReadExt, BufReader};
        let mut command = self.command(version, arguments);
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().expect("kubectl starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output is a pipe")).lines();
        let mut next = async || {
            let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("kubectl {arguments:?} is silent")).expect("it can be read");
            line.expect("another line")
        };
        let mut seen = vec![next().await, next().await];
        meanwhile.await;
        while seen.len() < count {
            seen.push(next().await);
        }
        seen
    }
}

/// The form of a request that begins a path, as in `table:/api…`, and the rest.
fn form(path: &str) -> (&str, &str) {
    path.split_once(':').filter(|(kind, _)| !kind.contains('/')).unwrap_or(("", path))
}

/// What `Accept` says for a form.
fn accepted(form: &str) -> &'static str {
    match form {
        "table" => "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
        "meta" => "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        "metas" => "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
        "all" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json",
    }
}

/// The real API server, with Drover's definitions.
pub async fn real() -> Side {
    let start = async || {
        let api = KubeApi::start(&SCRATCH.join("kube")).await;
        let crds = checkout("crds").display().to_string();
        api.kubectl_ok(&["apply", "--server-side", "-f", &crds], None).await;
        api.kubectl_ok(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"], None).await;
        let side = Side::new("real", api.kubeconfig());
        for plural in ["modelpulls", "modeldeployments", "modelversions", "ollamanodes", "apikeys"] {
            eventually("the kind is served", Duration::from_secs(30), async || {
                let answer = side.ask("GET", &format!("/apis/drover.dev/v1alpha1/{plural}"), &Value::Null).await;
                if answer.code == 200 { Ok(()) } else { Err(answer.body.to_string()) }
            })
            .await;
        }
        (api, side)
    };
    REAL.get_or_init(start).await.1.clone()
}

/// The embedded API that most scenarios share.
pub async fn embedded() -> Side {
    let start = async || {
        let embedded = Embedded::start(&SCRATCH.join("embedded")).await;
        let side = Side::embedded(&embedded).await;
        (embedded, side)
    };
    EMBEDDED.get_or_init(start).await.1.clone()
}

/// What of an answer counts: without what differs from run to run, and with errors in one order.
pub fn normal(answer: &Answer) -> Answer {
    let mut body = answer.body.clone();
    clean(&mut body);
    if body["kind"] == "Status" {
        clean_status(&mut body);
    }
    let mut warnings = answer.warnings.clone();
    warnings.sort();
    Answer { code: answer.code, body, warnings }
}

/// The first place where two values differ, and what stands there on each side.
pub fn difference(real: &Value, embedded: &Value) -> Option<String> {
    let say = || Some(format!(": real {real}, embedded {embedded}"));
    match (real, embedded) {
        (Value::Object(left), Value::Object(right)) => {
            let names = left.keys().chain(right.keys().filter(|name| !left.contains_key(*name)));
            let mut inner = names.map(|name| (name, difference(&real[name], &embedded[name])));
            inner.find_map(|(name, found)| found.map(|found| format!(".{name}{found}")))
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let mut inner = left.iter().zip(right).map(|(real, embedded)| difference(real, embedded)).enumerate();
            inner.find_map(|(index, found)| found.map(|found| format!("[{index}]{found}")))
        }
        _ if real == embedded => None,
        _ => say(),
    }
}

/// Takes out what differs from run to run.
pub fn clean(value: &mut Value) {
    static TIME: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d").expect("a pattern"));
    static AGE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\d+s$").expect("a pattern"));
    match value {
        Value::Object(fields) => {
            // What a column of Kubernetes' own means is said in other words.
            if fields.contains_key("priority") && fields.contains_key("format") {
                fields.remove("description");
            }
            // They are sorted by times, which differ.
            if let Some(Value::Array(managers)) = fields.get_mut("managedFields") {
                managers.sort_by_key(|owned| {
                    let text = |name: &str| owned[name].as_str().unwrap_or_default().to_owned();
                    (text("operation"), text("manager"), text("subresource"))
                });
            }
            // Lists of fields tell which addresses a service has.
            for name in ["f:clusterIP", "f:clusterIPs", "f:ipFamilies", "f:ipFamilyPolicy"] {
                fields.remove(name);
            }
            for name in ["uid", "resourceVersion", "selfLink", "storageVersionHash", "continue"] {
                fields.remove(name);
            }
            // A service has an address only where something routes it.
            for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                fields.remove(name);
            }
            fields.values_mut().for_each(clean);
        }
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::String(text) if TIME.is_match(text) => *value = json!("TIME"),
        Value::String(text) if AGE.is_match(text) => *value = json!("AGE"),
        _ => {}
    }
}

/// A refused patch repeats the whole object.
fn without_object(message: &str) -> String {
    match (message.find("Invalid value: \"{"), message.find("}\": strict")) {
        (Some(from), Some(to)) => format!("{}OBJECT{}", &message[..from], &message[to..]),
        _ => message.to_owned(),
    }
}

fn clean_status(status: &mut Value) {
    static NUMBERS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d{4}-\d\d-\d\dT[0-9:]+Z|\(\d+\)|: \d+").expect("a pattern")
    });
    if let Some(causes) = status.pointer_mut("/details/causes").and_then(Value::as_array_mut) {
        causes.sort_by_key(ToString::to_string);
        causes.dedup();
        for cause in causes.iter_mut() {
            cause["message"] = json!(without_object(cause["message"].as_str().unwrap_or_default()));
        }
    }
    let message = without_object(status["message"].as_str().unwrap_or_default());
    // The causes say the rest, and in no certain order.
    let message = message.split(" is invalid: [").next().unwrap_or_default();
    status["message"] = json!(NUMBERS.replace_all(message, "#"));
}
